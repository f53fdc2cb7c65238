"""Rates of transport: frames from process to process by ZeroMQ, images from server to client by Tango."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
from tango.server import Device, attribute
from tango.test_context import DeviceTestContext

from benchmarks.backproject import Row, timed
from tango_jit.streams import Image, Mailbox, Pusher, Subscriber

SHAPE = (647, 768)


class Pictures(Device):
    """Images of three sizes."""

    def init_device(self) -> None:
        super().init_device()
        self._images = {side: np.ones((side, side), np.float32) for side in (512, 1024, 2048)}

    @attribute(dtype=((np.float32,),), max_dim_x=512, max_dim_y=512)
    def image_512(self) -> Any:
        return self._images[512]

    @attribute(dtype=((np.float32,),), max_dim_x=1024, max_dim_y=1024)
    def image_1024(self) -> Any:
        return self._images[1024]

    @attribute(dtype=((np.float32,),), max_dim_x=2048, max_dim_y=2048)
    def image_2048(self) -> Any:
        return self._images[2048]


def push(queue: Any, ended: Event) -> None:
    """Send frames as fast as they are taken (a process of its own)."""
    with Pusher() as pusher:
        queue.put(pusher.endpoint)
        frame = Image("series", 0, 0.0, 0.0, np.ones(SHAPE, np.uint16), None)
        while not ended.is_set():
            pusher.send(frame, timeout_s=0.1)


def frames_per_second(frames: int) -> float:
    context = multiprocessing.get_context("spawn")
    queue, ended = context.Queue(), context.Event()
    process = context.Process(target=push, args=(queue, ended))
    process.start()
    endpoint = queue.get(timeout=60)
    mailbox = Mailbox(64 << 20, "lossless")
    with Subscriber(lambda: endpoint, mailbox, kind="pull"):
        for _ in range(frames // 10):
            mailbox.get(timeout=10)
        started = time.perf_counter()
        for _ in range(frames):
            mailbox.get(timeout=10)
        rate = frames / (time.perf_counter() - started)
        ended.set()
        while mailbox.get(timeout=0.3):
            pass
    process.join(10)
    queue.close()
    return rate


def measure(repeats: int) -> Iterator[Row]:
    rates = [frames_per_second(1000) for _ in range(3)]
    yield {
        "name": f"uint16 frames of {SHAPE[0]} x {SHAPE[1]} by PUSH/PULL, two processes",
        "per_s": round(sorted(rates)[1]),
        "best_per_s": round(max(rates)),
        "target": "",
    }
    with DeviceTestContext(Pictures, process=True) as device:
        for side, target in ((512, ""), (1024, "1.1 ms"), (2048, "4.2 ms")):
            name = f"image_{side}"
            row = timed(
                f"Tango read of a float32 image of {side}²", lambda n=name: device.read_attribute(n), 5 * repeats
            )
            yield row | {"target": target}
