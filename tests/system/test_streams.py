"""Publisher and Subscriber over real sockets on loopback, with second processes where one is stopped or killed."""

import os
import signal
import socket
import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import zmq

from tango_jit.streams import Denoised, Mailbox, Publisher, Pusher, SeriesEnd, Slice
from tests.system.stream_peers import (
    FIELD,
    HELLO,
    LOOPBACK,
    MB,
    PATIENCE_S,
    PICTURE,
    PREAMBLE,
    Peer,
    Receiver,
    free_endpoint,
    header,
    image,
    small,
    wait_until,
)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as publisher:
        yield publisher


def test_every_kind_of_message_arrives_as_it_was_sent(publisher: Publisher) -> None:
    denoised = Denoised(**vars(PICTURE), weights_version=1, accuracy=0.6)
    messages = [*PREAMBLE.values(), small(1), image(2), PICTURE, denoised, SeriesEnd("a", 2)]
    with Receiver(publisher.endpoint, clock=lambda: 42.0) as receiver:
        receiver.meet(publisher)
        for message in messages:
            publisher.send(message)
        got = [receiver.next() for _ in messages]
        if got[0] == HELLO:  # it came twice: sent, and sent again on the subscription
            got = [*got[1:], receiver.next()]
        assert got == messages
        assert receiver.box.received_at == 42.0
        assert (receiver.subscriber.connected, receiver.subscriber.invalid, receiver.subscriber.trouble) == (
            True,
            0,
            "",
        )
    assert publisher.sent == len(messages) + 1
    assert publisher.bytes > sum(message.nbytes for message in messages)


def test_late_subscribers_get_all_that_is_retained_although_nothing_is_sent(publisher: Publisher) -> None:
    for key, message in PREAMBLE.items():
        publisher.send(message, retain=key)
    with Receiver(publisher.endpoint) as first:
        assert [first.next() for _ in PREAMBLE] == list(PREAMBLE.values())
        with Receiver(publisher.endpoint) as second:
            assert [second.next() for _ in PREAMBLE] == list(PREAMBLE.values())
        assert [first.next() for _ in PREAMBLE] == list(PREAMBLE.values())  # a resend reaches everybody


def test_retained_messages_are_replaced_by_key_and_forgotten(publisher: Publisher) -> None:
    for key, message in PREAMBLE.items():
        publisher.send(message, retain=key)
    publisher.send(header("b"), retain="header")
    for key in ("dark", "view", "nothing"):
        publisher.forget(key)
    with Receiver(publisher.endpoint) as receiver:
        assert [receiver.next() for _ in range(3)] == [header("b"), PREAMBLE["flat"], PREAMBLE["weights"]]


def test_retained_messages_arrive_although_two_frames_exceed_the_budget() -> None:
    with Publisher(budget_bytes=MB) as publisher:
        for key, message in PREAMBLE.items():
            publisher.send(message, retain=key)
        with Receiver(publisher.endpoint) as receiver:
            assert [receiver.next() for _ in PREAMBLE] == list(PREAMBLE.values())


def test_prefixes_choose_what_comes(publisher: Publisher) -> None:
    other = Slice(**{**vars(PICTURE), "slice": "xz"})
    for key, message in {**PREAMBLE, "xz": other, "xy": PICTURE}.items():
        publisher.send(message, retain=key)
    with Receiver(publisher.endpoint, prefixes=[b'{"htype":"slice","slice":"xy"', b'{"htype":"view"']) as receiver:
        assert [receiver.next(), receiver.next()] == [PREAMBLE["view"], PICTURE]


def test_buffers_may_be_used_again_after_send(publisher: Publisher) -> None:
    data = FIELD.copy()
    with Receiver(publisher.endpoint) as receiver:
        receiver.meet(publisher)
        publisher.send(image(1, data=data), retain="image")
        data[:] = -1
        while (got := receiver.next()) == HELLO:
            pass
        assert got == image(1)
        with Receiver(publisher.endpoint) as late:
            assert late.next() == image(1)


def test_burst_within_the_budget_arrives_whole(publisher: Publisher) -> None:
    with Receiver(publisher.endpoint) as receiver:
        receiver.meet(publisher)
        for frame in range(60):
            publisher.send(small(frame))
        assert receiver.images(60) == list(range(60))


def test_frames_that_become_larger_still_arrive() -> None:
    """The publisher changes its socket for them; lowering the mark of a live one would block it, or crash."""
    with Publisher(budget_bytes=256 * MB) as publisher, Receiver(publisher.endpoint) as receiver:
        receiver.meet(publisher)
        large = np.zeros((1024, 2048), np.float32)
        for first, data in ((0, FIELD), (100, large), (200, FIELD), (300, large.repeat(2, 0))):
            for frame in range(first, first + 40):
                publisher.send(image(frame, data=data), retain="newest")
                while receiver.images(1) != [frame]:  # a resend may repeat an older one
                    pass
        with publisher._lock:
            assert publisher._socket.sndhwm == 16


def test_missed_header_is_asked_for(publisher: Publisher) -> None:
    publisher.send(header("old"), retain="header")
    with Receiver(publisher.endpoint) as receiver:
        assert receiver.next() == header("old")
        # As after a long pause: the header of the new series was dropped for this subscriber alone.
        publisher._retained["header"] = [bytes(part) for part in header("new").parts()]
        publisher.send(small(1, "new"))
        assert [receiver.next(), receiver.next()] == [small(1, "new"), header("new")]


def test_stopped_subscriber_holds_up_nobody_and_costs_no_more_than_the_budget() -> None:
    with (
        Publisher(budget_bytes=8 * MB) as publisher,
        Receiver(publisher.endpoint) as receiver,
        Peer("report", publisher.endpoint, "sub") as stopped,
    ):
        publisher.send(header(), retain="header")
        assert stopped.line() == "header a"
        assert receiver.next() == header()

        def lockstep(first: int, count: int, series: str) -> None:
            for frame in range(first, first + count):
                publisher.send(image(frame, series))
                assert receiver.images(1) == [frame]

        lockstep(0, 20, "a")
        before = psutil.Process().memory_info().rss
        stopped.signal(signal.SIGSTOP)
        lockstep(20, 100, "a")
        publisher.send(header("b"), retain="header")
        lockstep(1000, 100, "b")
        assert psutil.Process().memory_info().rss - before < (8 + 32) * MB  # 200 MB were sent
        stopped.signal(signal.SIGCONT)
        publisher.send(small(5000, "b"))
        while stopped.line() != "header b":  # it missed that one, and asked
            publisher.send(small(5000, "b"))


def test_killed_publisher_is_rejoined_at_the_same_place() -> None:
    endpoint = free_endpoint()
    with Receiver(endpoint) as receiver:
        assert receiver.box.get(0) is None
        for series in ("a", "b", "c"):
            with Peer("publish", endpoint, series):
                while receiver.next() != header(series):
                    pass
                wait_until(lambda: receiver.subscriber.connected)
                first, second = receiver.images(2)
                assert second > first >= 0
            wait_until(lambda: not receiver.subscriber.connected)
            assert endpoint in receiver.subscriber.trouble


def test_moved_publisher_is_found_by_asking_again() -> None:
    places: list[str | Exception | None] = [None]

    def resolve() -> str | None:
        if isinstance(places[-1], Exception):
            raise places[-1]
        return places[-1]

    with Receiver(resolve) as receiver:
        wait_until(lambda: "no endpoint yet" in receiver.subscriber.trouble)
        places.append(OSError("the upstream device does not answer"))
        wait_until(lambda: receiver.subscriber.trouble == "the upstream device does not answer")
        places.append("tcp://not an address")
        wait_until(lambda: "not an address" in receiver.subscriber.trouble)
        for series in ("a", "b"):
            with Publisher() as publisher:
                publisher.send(header(series), retain="header")
                places.append(publisher.endpoint)
                assert receiver.next() == header(series)
                assert receiver.subscriber.trouble == ""
        places.append(RuntimeError("gone"))
        wait_until(lambda: receiver.subscriber.trouble == "gone")


def test_publisher_that_moves_while_connected_and_silent_is_found(publisher: Publisher) -> None:
    with Publisher() as old, Receiver(lambda: places[-1]) as receiver:
        places = [old.endpoint]
        receiver.meet(old)
        publisher.send(header("new"), retain="header")
        places.append(publisher.endpoint)
        while receiver.next() != header("new"):
            pass


def test_what_is_no_message_is_counted_and_skipped() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as hostile:
        hostile.linger = 0
        hostile.bind(LOOPBACK)
        with Receiver(hostile.get_string(zmq.LAST_ENDPOINT)) as receiver:
            assert hostile.poll(1000 * int(PATIENCE_S))  # the subscription
            for parts in ([b""], [b"\xff" * 100], [b"{}"] * 10, [b'{"htype":"image"}', b"x"], [b"[" * 100_000]):
                hostile.send_multipart(parts)
            hostile.send_multipart(small(7).parts())
            assert receiver.next() == small(7)
            assert (receiver.subscriber.received, receiver.subscriber.invalid) == (1, 5)
            assert "expected" in receiver.subscriber.trouble


def test_noise_on_the_port_does_not_disturb_the_publisher(publisher: Publisher) -> None:
    address, port = publisher.endpoint.removeprefix("tcp://").split(":")
    for noise in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000), b""):
        with socket.create_connection((address, int(port))) as connection:
            connection.sendall(noise)
    with zmq.Context() as context, context.socket(zmq.XSUB) as hostile, Receiver(publisher.endpoint) as receiver:
        hostile.linger = 0
        hostile.connect(publisher.endpoint)
        for text in (b"", b"\x02", b"\x01" * 5000, b"\x00nothing"):
            hostile.send(text)
        receiver.meet(publisher)


def test_subscriber_that_waits_for_room_can_be_closed(publisher: Publisher) -> None:
    with Receiver(publisher.endpoint, box=Mailbox(1, "lossless")) as receiver:
        publisher.send(PREAMBLE["dark"], retain="dark")
        publisher.send(PREAMBLE["flat"], retain="flat")
        wait_until(lambda: receiver.subscriber.received >= 2)  # the second waits
        assert len(receiver.box) == 1


@pytest.mark.parametrize("kind", [Publisher, Pusher])
def test_endpoints(kind: type[Publisher] | type[Pusher]) -> None:
    with kind("tcp://127.0.0.1:0") as one:
        assert one.endpoint.startswith("tcp://127.0.0.1:")
        with pytest.raises(OSError, match=f"cannot bind {one.endpoint}: Address already in use"):
            kind(one.endpoint)
    with kind(one.endpoint) as again:
        assert again.endpoint == one.endpoint
    with pytest.raises(ValueError, match="expected tcp://"):
        kind("ipc:///tmp/x")
    with pytest.raises(OSError, match="cannot bind"):
        kind("tcp://nonsense")
    with pytest.raises(ValueError, match="budget"):
        kind(budget_bytes=0)


@pytest.mark.parametrize("kind", [Publisher, Pusher])
def test_closing_twice_is_no_error_but_sending_then_is(kind: type[Publisher] | type[Pusher]) -> None:
    threads = threading.active_count()
    with kind() as sender:
        sender.close()
    with pytest.raises(OSError, match=f"{sender.endpoint}: expected it to be open"):
        sender.send(header())
    assert threading.active_count() == threads


def test_subscriber_closes_twice_and_refuses_other_kinds(publisher: Publisher) -> None:
    with Receiver(publisher.endpoint) as receiver:
        receiver.subscriber.close()
    assert not receiver.subscriber.connected
    with pytest.raises(ValueError, match=r"expected .* got 'dealer'"):
        Receiver(publisher.endpoint, "dealer")
