"""Messages, a receiver and second processes for the tests of the streams.

Run as a script this file is such a second process: `python stream_peers.py ROLE ENDPOINT ARGUMENT`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams import (
    Dark,
    Flat,
    Header,
    Image,
    Mailbox,
    Message,
    Publisher,
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
    "weights": Weights(1, {"preset": "DEFAULT"}, 0.03, 0.6, 1, "halves", b"tensors"),
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill -9."""
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


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
