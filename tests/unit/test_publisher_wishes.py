"""What a publisher knows of the subscriptions of others, also when its socket is made anew."""

from __future__ import annotations

from tango_jit.streams import Mailbox, Publisher, SeriesEnd, Subscriber
from tests.events import wait_until

WISH = b'{"htype":"wish","depth":5}'


def test_a_wish_is_known_changed_and_withdrawn() -> None:
    with Publisher() as publisher:
        mailbox = Mailbox(1 << 20, "newest")
        with Subscriber(lambda: publisher.endpoint, mailbox) as subscriber:
            subscriber.wish(WISH)
            wait_until(lambda: publisher.subscriptions == {b"", WISH}, what="the wish")
            publisher.send(SeriesEnd("probe", 0), retain="probe")
            message = mailbox.get(timeout=10)
            assert isinstance(message, SeriesEnd)
            subscriber.wish(WISH.replace(b"5", b"3"))
            wait_until(lambda: publisher.subscriptions == {b"", WISH.replace(b"5", b"3")}, what="another wish")
            subscriber.wish(b"")
            wait_until(lambda: publisher.subscriptions == {b""}, what="no wish")
        wait_until(lambda: not publisher.subscriptions, what="nobody")


def test_a_wish_outlives_larger_messages() -> None:
    """For them the socket is made anew; subscribers come back within a tenth of a second, and count meanwhile."""
    with Publisher(budget_bytes=64 << 20) as publisher:
        with Subscriber(lambda: publisher.endpoint, Mailbox(1 << 20, "newest")) as subscriber:
            subscriber.wish(WISH)
            wait_until(lambda: WISH in publisher.subscriptions, what="the wish")
            publisher.expect(8 << 20)
            assert WISH in publisher.subscriptions
            wait_until(lambda: not publisher._before, what="the end of the grace")
            assert WISH in publisher.subscriptions
        wait_until(lambda: not publisher.subscriptions, what="nobody")
