"""Looks at endpoints: who is there, and does it send; without taking a frame from anybody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tango_jit.streams import Mailbox, Publisher, Pusher, Subscriber
from tango_jit.streams.messages import Image
from tango_jit.streams.probe import Heard, address, contact, listen
from tests.messages import EXAMPLES, IMAGE

IMAGES, WEIGHTS = b'{"htype":"image"', b'{"htype":"weights"'


@contextmanager
def listener(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Somebody who listens, and does `answer` with every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    answer(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_addresses():
    assert address("tcp://192.0.2.1:18000") == ("192.0.2.1", 18000)
    assert address("tcp://[::1]:18000") == ("::1", 18000)
    for none in ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://127.0.0.1:70000", "ipc://x", "", "tcp://*:18000"):
        assert address(none) is None
        assert contact(none) == "unknown"


def test_who_is_there():
    with Publisher() as publisher, Pusher() as pusher:
        endpoint = publisher.endpoint
        assert contact(endpoint) == "stream"
        assert contact(pusher.endpoint) == "stream"
    assert contact(endpoint) == "refused"
    kept: list[socket.socket] = []
    with listener(kept.append) as silent:
        assert contact(silent, 0.2) == "silent"
    with listener(lambda one: (kept.append(one), one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))) as foreign:
        assert contact(foreign, 5.0) == "foreign"
    with listener(lambda one: one.close()) as closes:
        assert contact(closes, 5.0) == "foreign"
    for one in kept:
        one.close()


def test_a_publisher_that_sends_is_heard_until_there_is_enough():
    with Publisher() as publisher:
        assert listen(publisher.endpoint, IMAGES, 0.5) == Heard(True)  # connected, no data
        heard: list[Heard] = []
        thread = threading.Thread(target=lambda: heard.append(listen(publisher.endpoint, IMAGES, 60.0)))
        thread.start()
        frame = 0
        while thread.is_alive():
            frame += 1
            publisher.send(EXAMPLES["weights"])  # not what was asked for
            publisher.send(Image("s", frame, 0.0, 0.0, IMAGE.data))
            thread.join(0.001)
    assert heard[0].messages == 20
    assert heard[0].rate_hz is not None
    assert listen(publisher.endpoint, IMAGES, 0.3) == Heard(False)
    assert Heard(True, 1, 0.0).rate_hz is None


def test_what_is_kept_for_every_new_listener_counts_once():
    with Publisher() as publisher:
        publisher.send(EXAMPLES["weights"], retain="weights")
        heard: list[Heard] = []
        thread = threading.Thread(target=lambda: heard.append(listen(publisher.endpoint, WEIGHTS, 1.5)))
        thread.start()
        while thread.is_alive():
            publisher.send(EXAMPLES["weights"], retain="weights")  # as for others who come
            thread.join(0.01)
    assert heard == [Heard(True, 1, 0.0)]


def test_looking_at_a_push_stream_takes_nothing_from_its_receiver():
    mailbox = Mailbox(1 << 20, "lossless")
    with Pusher() as pusher, Subscriber(lambda: pusher.endpoint, mailbox, kind="pull"):
        for frame in range(200):
            if frame % 20 == 0:
                assert contact(pusher.endpoint) == "stream"
            assert pusher.send(Image("s", frame, 0.0, 0.0, IMAGE.data), 10.0)
            message = mailbox.get(10.0)
            assert isinstance(message, Image)
            assert message.frame == frame


def test_nonsense_is_refused_in_words():
    with pytest.raises(OSError, match="expected tcp://address:port, got 'nonsense'"):
        listen("nonsense", b"", 0.1)
