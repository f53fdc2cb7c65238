"""Frames from process to process by ZeroMQ, images from server to client by Tango."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
from tango.server import Device, attribute
from tango.test_context import DeviceTestContext

from sim.bench.rows import Figure, Row
from sim.bench.scene import COLS, ROWS
from sim.bench.timing import Effort, timed
from tango_jit.streams import Image, Mailbox, Pusher, Subscriber

FRAMES = 300  # a rate is that of so many


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


def push(endpoint: Any, ended: Event) -> None:
    """Send frames as fast as they are taken (a process of its own)."""
    with Pusher() as pusher:
        endpoint.put(pusher.endpoint)
        frame = Image("series", 0, 0.0, 0.0, np.ones((ROWS, COLS), np.uint16), None)
        while not ended.is_set():
            pusher.send(frame, timeout_s=0.1)


def frames_per_second(effort: Effort) -> Figure:
    """Of frames that another process pushes."""
    context = multiprocessing.get_context("spawn")
    endpoints, ended = context.Queue(), context.Event()
    process = context.Process(target=push, args=(endpoints, ended))
    process.start()
    try:
        endpoint, rates = endpoints.get(timeout=60), []
        mailbox = Mailbox(64 << 20, "lossless")
        with Subscriber(lambda: endpoint, mailbox, kind="pull"):
            for repeat in range(effort.repeats + 1):
                began = time.perf_counter()
                for _ in range(FRAMES):
                    if mailbox.get(timeout=10) is None:
                        raise RuntimeError("frames: expected one within 10 s, got none")
                if repeat:  # the first ones warm up
                    rates.append(FRAMES / (time.perf_counter() - began))
            ended.set()
            while mailbox.get(timeout=0.3):
                pass
    finally:
        ended.set()
        process.join(10)
        endpoints.close()
    return Figure.of(rates, "higher")


def measure(effort: Effort) -> Iterator[Row]:
    yield Row.of(f"uint16 frames of {ROWS} x {COLS} by PUSH/PULL", "/s", frames_per_second(effort))
    with DeviceTestContext(Pictures, process=True) as device:
        for side in (512, 1024, 2048):
            read = timed(lambda name=f"image_{side}": device.read_attribute(name), effort, warm_up=5)
            yield Row.of(f"Tango read of a float32 image of {side}²", "ms", read)
