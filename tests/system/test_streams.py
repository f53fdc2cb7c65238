"""Streams over real sockets on loopback, with second processes where one is stopped or killed.

Run as a script this file is such a second process: `python test_streams.py ROLE ENDPOINT [ARGUMENT]`.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import pytest
import zmq

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams import (
    Dark,
    Denoised,
    Flat,
    Header,
    Image,
    Mailbox,
    Message,
    Publisher,
    Pusher,
    SeriesEnd,
    Slice,
    Subscriber,
    View,
    Weights,
)

ROOT = Path(__file__).parents[2]
LOOPBACK = "tcp://127.0.0.1:*"
PATIENCE_S = 30.0  # ends a test that would hang; no test waits this long unless it fails
MB = 1 << 20

SCAN = ScanGeometry.cone(rows=256, cols=1024, pixel_mm=0.1, source_axis_mm=100, source_detector_mm=200)
PLACE = SliceGeometry((-1.0, -1.0, 0.0), (2.0, 0.0, 0.0), (0.0, 2.0, 0.0), 8, 8)
FIELD = np.linspace(0, 1, 256 * 1024, dtype=np.float32).reshape(256, 1024)  # 1 MiB
PICTURE = Slice("xy", 1, PLACE, "a", 0, 9, 5.0, True, np.ones((2, 1, 8, 8), np.float32))


def header(series: str = "a") -> Header:
    return Header(series, "raw", SCAN, False)


def image(frame: int, series: str = "a", data: np.ndarray = FIELD) -> Image:
    return Image(series, frame, 0.1 * frame, 1.0, data)


def small(frame: int, series: str = "a") -> Image:
    return image(frame, series, np.full((4, 4), frame, np.uint16))


PREAMBLE: dict[str, Message] = {
    "header": header(),
    "dark": Dark("a", FIELD, 10),
    "flat": Flat("a", FIELD + 1, 10),
    "view": View(1, "hann", {"xy": PLACE}),
    "weights": Weights(1, {"preset": "DEFAULT"}, 0.03, 0.6, 1, b"tensors"),
}


HELLO = SeriesEnd("hello", 0)


class Receiver:
    """A Subscriber with its mailbox; `next` fails the test instead of waiting for ever."""

    def __init__(self, endpoint: str | Callable[[], str | None], kind: Any = "sub", box: Mailbox | None = None,
                 **settings: Any) -> None:  # fmt: skip
        self.box = Mailbox(256 * MB, "lossless") if box is None else box
        resolve = endpoint if callable(endpoint) else lambda: endpoint
        self.subscriber = Subscriber(resolve, self.box, kind=kind, **settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.subscriber.close()
        assert not self.subscriber._thread.is_alive()

    def next(self, timeout: float = PATIENCE_S) -> Message:
        message = self.box.get(timeout)
        assert message is not None, self.subscriber.trouble
        return message

    def images(self, count: int) -> list[int]:
        """The numbers of the next `count` images; other messages are skipped."""
        numbers: list[int] = []
        while len(numbers) < count:
            message = self.next()
            numbers += [message.frame] if isinstance(message, Image) else []
        return numbers

    def meet(self, publisher: Publisher) -> None:
        """Come back when the publisher's messages get here."""
        publisher.send(HELLO, retain="hello")
        assert self.next() == HELLO
        publisher.forget("hello")


class Peer:
    """This file as a second process; what it prints comes by line."""

    def __init__(self, role: str, *arguments: object) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, __file__, role, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.poll()}"
        return line.strip()

    def images(self, count: int) -> list[int]:
        """The numbers of the next `count` images; lines about other messages are skipped."""
        numbers: list[int] = []
        while len(numbers) < count:
            kind, subject = self.line().split()
            numbers += [int(subject)] if kind == "image" else []
        return numbers

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Peer]]:
    """Start second processes that end with the test."""
    peers: list[Peer] = []

    def starter(role: str, *arguments: object) -> Peer:
        peers.append(Peer(role, *arguments))
        return peers[-1]

    yield starter
    for peer in peers:
        peer.end()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as publisher:
        yield publisher


@pytest.fixture
def pusher() -> Iterator[Pusher]:
    with Pusher() as pusher:
        yield pusher


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def refill(pusher: Pusher, first: int, data: np.ndarray = FIELD) -> int:
    """Send images from number `first` on until nobody takes them any more; returns the first number not sent."""
    while pusher.send(image(first, data=data), 0.3):
        first += 1
    return first


# ---- publisher and subscriber


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


def test_stopped_subscriber_holds_up_nobody_and_costs_no_more_than_the_budget(start: Callable[..., Peer]) -> None:
    with Publisher(budget_bytes=8 * MB) as publisher, Receiver(publisher.endpoint) as receiver:
        publisher.send(header(), retain="header")
        stopped = start("report", publisher.endpoint, "sub")
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


def test_killed_publisher_is_rejoined_at_the_same_place(start: Callable[..., Peer]) -> None:
    endpoint = free_endpoint()
    with Receiver(endpoint) as receiver:
        assert receiver.box.get(0) is None
        for series in ("a", "b", "c"):
            peer = start("publish", endpoint, series)
            while receiver.next() != header(series):
                pass
            assert receiver.subscriber.connected
            first, second = receiver.images(2)
            assert second > first >= 0
            peer.signal(signal.SIGKILL)
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


# ---- pusher and subscriber of kind "pull"


def test_pusher_waits_in_vain_without_a_receiver_and_then_delivers_what_is_retained_first(pusher: Pusher) -> None:
    for key in ("header", "dark", "flat"):
        assert not pusher.send(PREAMBLE[key], 0.0, retain=key)
    assert not pusher.send(small(0), 0.05)
    with Receiver(pusher.endpoint, "pull") as receiver:
        assert pusher.send(small(1), PATIENCE_S)
        assert [receiver.next() for _ in range(4)] == [header(), PREAMBLE["dark"], PREAMBLE["flat"], small(1)]
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


def test_stopped_receiver_holds_the_pusher_up_and_nothing_is_lost(pusher: Pusher, start: Callable[..., Peer]) -> None:
    assert not pusher.send(header(), retain="header")
    receiver = start("report", pusher.endpoint, "pull")
    assert pusher.send(small(0), PATIENCE_S)
    assert receiver.line() == "header a"
    assert receiver.images(1) == [0]
    receiver.signal(signal.SIGSTOP)
    last = refill(pusher, 1)
    receiver.signal(signal.SIGCONT)
    assert receiver.images(last - 1) == list(range(1, last))
    assert pusher.send(small(last), PATIENCE_S)
    assert receiver.images(1) == [last]


def test_every_new_receiver_after_a_kill_gets_header_dark_and_flat_first(
    pusher: Pusher, start: Callable[..., Peer]
) -> None:
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
            receiver = start("report", pusher.endpoint, "pull")
            lines = [receiver.line()]
            while not lines[-1].startswith("image"):
                lines.append(receiver.line())
            assert lines[0] == "header a"
            assert set(lines[:-1]) == {"header a", "dark a", "flat a"}
            numbers = [int(lines[-1].split()[1]), *receiver.images(500)]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert numbers[0] > newest  # what was under way to the one before is lost, not repeated
            newest = numbers[-1]
            receiver.signal(signal.SIGKILL)
    finally:
        stop.set()
        sender.join()


# ---- life and death of sockets


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


# ---- what the second processes do


def report(endpoint: str, kind: str) -> None:
    """Print a line for every message: its kind and its frame, or else its series."""
    with Receiver(endpoint, kind, Mailbox(4 * MB, "lossless")) as receiver:
        while True:
            message: Any = receiver.next(3600)
            print(message.htype, message.frame if isinstance(message, Image) else message.series)


def publish(endpoint: str, series: str) -> None:
    """Publish a header and then images, for ever."""
    with Publisher(endpoint) as publisher:
        publisher.send(header(series), retain="header")
        for frame in range(10**9):
            publisher.send(small(frame, series))
            time.sleep(0.005)


if __name__ == "__main__":
    {"report": report, "publish": publish}[sys.argv[1]](*sys.argv[2:])
