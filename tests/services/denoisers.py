"""What tests of the denoiser share: networks that do what is known, noisy slices, and a bench with both upstreams."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from tango_jit.geometry import SliceGeometry
from tango_jit.learn import NetworkConfig, build
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import Weights, pack, unpack
from tango_jit.services.denoiser import DenoiserService
from tango_jit.streams import Denoised, Publisher, Slice, View
from tests.services.scans import LOOPBACK, MU, Listener, StandingClock, look, see

SIDE = 32
PLACE = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=0.1, shape=(SIDE, SIDE))


def filtering(kernel: np.ndarray, version: int) -> Weights:
    """A network that convolves with `kernel` (3, 3): one channel carries what is above 0, one what is below.

    Its prior has no strength: it is the image itself.
    """
    network = build(NetworkConfig())
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    change = np.array(kernel, np.float32)
    change[1, 1] -= 1
    top = network.top
    with torch.no_grad():
        for channel, sign in enumerate((1.0, -1.0)):
            top.first.weight[channel, 0, 1, 1] = sign
            top.second.weight[channel, channel, 1, 1] = 1.0
            top.third.weight[channel, channel, 1, 1] = 1.0
            top.last.weight[0, channel] = sign * torch.from_numpy(change)
    return pack(network, version=version, scale=0.02, patch_accuracy=0.6, generation=0)


def helps(version: int) -> Weights:
    """The mean of 3 x 3 pixels: takes most of the noise away."""
    return filtering(np.full((3, 3), 1 / 9), version)


def hurts(version: int) -> Weights:
    """Makes the noise several times stronger."""
    return filtering(np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]), version)


def any_network(version: int) -> Weights:
    """Untrained: neither linear nor the identity; changes enough that bfloat16 is exact to less than 1 % of it."""
    network = build(NetworkConfig(), seed=version)
    with torch.no_grad():
        network.top.last.weight *= 5
        getattr(network, STRENGTH).fill_(0.2)
    return pack(network, version=version, scale=0.02, patch_accuracy=None, generation=0)


def planes(seed: int, count: int = 2) -> np.ndarray:
    """(count, 1, rows, cols): even, odd (, full) of a smooth object with noise."""
    row, col = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    truth = 2 * MU * np.exp(-(row**2 + col**2) / 72)
    noise = 0.2 * MU * np.random.default_rng(seed).normal(size=(count, 1, SIDE, SIDE))
    return (truth + noise).astype(np.float32)


class DenoiserBench:
    """A running denoiser with its two upstreams and a listener."""

    def __init__(self, backend: str = "cpu") -> None:
        self.clock = StandingClock()
        self.slices, self.weights = Publisher(LOOPBACK), Publisher(LOOPBACK)
        self.service = DenoiserService(lambda: self.slices.endpoint, lambda: self.weights.endpoint, threads=1,
                                       clock=self.clock, backend=backend)  # fmt: skip
        self.listener = Listener(self.service.values["denoised_endpoint"])
        self.frame = 0
        self.view("xy")
        self.service.start()

    def view(self, *names: str) -> None:
        self.slices.send(View(1, "hann", dict.fromkeys(names, PLACE)), retain="view")

    def slice(self, name: str = "xy", *, complete: bool = True, count: int = 2, data: Any = None) -> Slice:
        """The next slice, not sent."""
        self.frame += 1
        data = planes(self.frame, count) if data is None else data
        return Slice(name, 3, PLACE, "series", self.frame, self.frame + 9, self.clock.now - 0.5, complete, data)

    def pass_through(self, slice_: Slice) -> Denoised:
        self.slices.send(slice_)
        return self.listener.next(lambda message: message.last_frame == slice_.last_frame)

    def next(self, name: str = "xy", **fields: Any) -> Denoised:
        return self.pass_through(self.slice(name, **fields))

    def use(self, weights: Weights) -> None:
        """Send weights and wait until they are what slices pass through."""
        self.weights.send(weights, retain="weights")
        self.until(weights.version)

    def until(self, version: int) -> None:
        for _ in range(100):
            if self.next().weights_version == version:
                return
        raise AssertionError(f"weights {version} were never in use: {look(self.service)}")

    def close(self) -> None:
        self.service.close()
        self.listener.close()
        self.slices.close()
        self.weights.close()


def wait_for_slices(bench: DenoiserBench, *names: str) -> None:
    def known(_: Any) -> bool:
        return {f"raw_{name}" for name in names} == {s for s in bench.service.signals if s.startswith("raw_")}

    see(bench.service, state=known)


def meet(bench: DenoiserBench) -> None:
    """Until the listener hears the service."""

    def heard(_: Any) -> bool:
        bench.slices.send(bench.slice())
        return bool(bench.listener.waiting())

    see(bench.service, state=heard)


def wait_weights(bench: DenoiserBench, count: int) -> None:
    """Until so many weights messages have arrived and been worked through."""
    see(bench.service, state=lambda _: bench.service._subscribers[1].received >= count)
    look(bench.service)


def image(message: Denoised) -> np.ndarray:
    return message.data[0, 0]


def network_output(weights: Weights, picture: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return (
            unpack(weights)(torch.from_numpy(picture[None, None].copy()) / weights.scale)[0, 0] * weights.scale
        ).numpy()
