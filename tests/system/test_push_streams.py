"""Pusher and the Subscriber that pulls from it, over real sockets on loopback, with receivers stopped and killed."""

import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tango_jit.streams import Mailbox, Message, Pusher
from tests.system.stream_peers import FIELD, MB, PATIENCE_S, PREAMBLE, Peer, Receiver, header, image, small


@pytest.fixture
def pusher() -> Iterator[Pusher]:
    with Pusher() as pusher:
        yield pusher


def refill(pusher: Pusher, first: int, data: np.ndarray = FIELD) -> int:
    """Send images from number `first` on until nobody takes them any more; returns the first number not sent."""
    while pusher.send(image(first, data=data), 0.3):
        first += 1
    return first


def test_pusher_waits_in_vain_without_a_receiver_and_then_delivers_what_is_retained_first(pusher: Pusher) -> None:
    for key in ("header", "dark", "flat"):
        assert not pusher.send(PREAMBLE[key], 0.0, retain=key)
    assert not pusher.send(small(0), 0.05)
    with Receiver(pusher.endpoint, "pull") as receiver:
        assert pusher.send(small(1), PATIENCE_S)
        got = list(iter(receiver.next, small(1)))
        assert got[:2] == [header(), PREAMBLE["dark"]]
        assert got[-1] == PREAMBLE["flat"]  # the row may have begun anew when the connection was complete
    assert pusher.sent == 1


def test_poll_delivers_what_is_retained_while_nothing_is_sent(pusher: Pusher) -> None:
    pusher.send(header(), retain="header")
    pusher.send(header("forgotten"), retain="other")
    pusher.forget("other")
    with Receiver(pusher.endpoint, "pull") as receiver:
        got: Message | None = None
        while got is None:
            pusher.poll()
            got = receiver.box.get(0.02)
        assert got == header()


def test_full_mailbox_holds_the_pusher_up_and_nothing_is_lost(pusher: Pusher) -> None:
    with Receiver(pusher.endpoint, "pull", Mailbox(4 * MB, "lossless")) as receiver:
        assert pusher.send(header(), PATIENCE_S, retain="header")
        first = refill(pusher, 0)
        assert first > 4
        assert receiver.images(1) == [0]
        last = refill(pusher, first)
        assert receiver.images(last - 1) == list(range(1, last))
        assert pusher.send(image(last), PATIENCE_S)  # and it goes on
        assert receiver.images(1) == [last]


def test_frame_larger_than_the_budget_goes_through() -> None:
    with Pusher(budget_bytes=MB // 2) as pusher, Receiver(pusher.endpoint, "pull") as receiver:
        for frame in range(20):
            assert pusher.send(small(frame), PATIENCE_S)
            assert pusher.send(image(frame), PATIENCE_S)
        assert receiver.images(40) == [n for frame in range(20) for n in (frame, frame)]


def test_stopped_receiver_holds_the_pusher_up_and_nothing_is_lost(pusher: Pusher) -> None:
    assert not pusher.send(header(), retain="header")
    with Peer("report", pusher.endpoint, "pull") as receiver:
        assert pusher.send(small(0), PATIENCE_S)
        assert receiver.line() == "header a"
        assert receiver.images(1) == [0]
        receiver.signal(signal.SIGSTOP)
        last = refill(pusher, 1)
        receiver.signal(signal.SIGCONT)
        assert receiver.images(last - 1) == list(range(1, last))
        assert pusher.send(small(last), PATIENCE_S)
        assert receiver.images(1) == [last]


def test_every_new_receiver_after_a_kill_gets_header_dark_and_flat_first(pusher: Pusher) -> None:
    stop = threading.Event()
    sent = 0

    def send_all() -> None:
        nonlocal sent
        for key in ("header", "dark", "flat"):
            pusher.send(PREAMBLE[key], retain=key)
        while not stop.is_set():
            sent += pusher.send(small(sent), 0.1)

    sender = threading.Thread(target=send_all)
    sender.start()
    try:
        newest = -1
        for _ in range(3):
            with Peer("report", pusher.endpoint, "pull") as receiver:
                lines = [receiver.line()]
                while not lines[-1].startswith("image"):
                    lines.append(receiver.line())
                assert lines[0] == "header a"
                assert set(lines[:-1]) == {"header a", "dark a", "flat a"}
                numbers = [int(lines[-1].split()[1]), *receiver.images(500)]
                assert numbers == list(range(numbers[0], numbers[-1] + 1))
                assert numbers[0] > newest  # what was under way to the one before is lost, not repeated
                newest = numbers[-1]
    finally:
        stop.set()
        sender.join()
