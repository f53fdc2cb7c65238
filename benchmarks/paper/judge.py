"""How good a network is: its accuracy on samples that were held out, and its slices against the truth.

A slice is denoised as the paper's method does it: each half by itself, then their mean. The truth is the noise-free
reconstruction of the same moment; they are compared where patches were taken, inside the container. The peak is the
range of the whole true slice, glass and air included: a slice of nothing but liquid has hardly any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from benchmarks.lab.simulated import noise_free_views, places_of, scenario_of
from benchmarks.lab.windows import window_of
from benchmarks.paper.family import Domain
from benchmarks.paper.film import Part, around
from sim.experiment import Experiment
from tango_jit.learn import NetworkConfig, noise2inverse
from tango_jit.learn.inference import Predictor
from tango_jit.learn.weights import Weights, unpack
from tango_jit.recon.pipeline import full_slice
from tango_jit.recon.reconstructor import Reconstructor

Image = NDArray[np.float32]
HELD_OUT, A_WINDOW = 3200, 8  # samples, and how many of them come from one window
MOMENT = 1170  # first frame of the turn that slices show: T7 has three moments before and after it
AT_ONCE = 64


class HeldOut:
    """Samples of a domain from the part of its film that nothing learned from."""

    def __init__(self, domain: Domain, network: NetworkConfig, size: int, samples: int = HELD_OUT) -> None:
        random, film = np.random.default_rng(1), domain.film
        steps = network.frame_interval if network.frames > 1 else 0
        first = domain.learned - steps * around(network)[0]
        last = film.frames - film.views_a_turn - steps * around(network)[-1]
        made = []
        for _ in range(-(-samples // A_WINDOW)):
            poses = domain.box.draw(random, A_WINDOW, size)
            made.append(film.pairs(network, int(random.integers(first, last + 1)), poses, (size, size)))
        pairs = torch.from_numpy(np.concatenate(made))
        self._samples = noise2inverse.samples(pairs)
        self._samples = self._samples[noise2inverse.distinct(self._samples, at=network.shown)]

    def score(self, weights: Weights) -> dict[str, float]:
        """`accuracy` as printed in the paper (mean of ratios), `ratio` as in its software (ratio of means)."""
        return accuracies(weights, self._samples)


def accuracies(weights: Weights, samples: torch.Tensor) -> dict[str, float]:
    """Of a network on samples (n, 3, ...) in mm^-1: see `HeldOut.score`."""
    network = unpack(weights)
    predictor, shown, found = Predictor(network, "auto", torch.device("cpu")), network.config.shown, []
    for chunk in (samples[:, :2] / weights.scale).split(AT_ONCE):
        even = torch.zeros(len(chunk), dtype=torch.int64)
        u, v, counts = noise2inverse.directed(noise2inverse.samples(chunk), even, shown)
        found.append(noise2inverse.errors(predictor(u), u, v, counts, at=shown))
    errors = np.concatenate(found)
    accuracy, ratio = noise2inverse.accuracy(errors), noise2inverse.ratio_of_means(errors)
    assert accuracy is not None and ratio is not None
    return {"accuracy": round(accuracy, 4), "ratio": round(ratio, 4)}


def denoised(weights: Weights, stack: Image) -> Image:
    """The mean (rows, cols) of both denoised halves (2, D, rows, cols) in mm^-1."""
    predictor = Predictor(unpack(weights), "auto", torch.device("cpu"))
    halves = predictor(torch.from_numpy(stack) / weights.scale) * weights.scale
    return halves.mean(0)[0].numpy()


class Slices:
    """A horizontal and a vertical slice of the turn from frame `moment` on, and how near to the truth they are."""

    def __init__(self, domain: Domain, network: NetworkConfig, cache: Path, moment: int = MOMENT) -> None:
        self.places = places_of(domain.film.geometry)
        self.truth = truth(domain.part, moment, cache)
        self._inside = {name: domain.box.holds(place) for name, place in self.places.items()}
        self._stacks = {name: domain.film.slice(network, moment, place) for name, place in self.places.items()}
        self.raw = {name: stack[:, network.shown].mean(0) for name, stack in self._stacks.items()}

    def images(self, weights: Weights) -> dict[str, Image]:
        return {name: denoised(weights, stack) for name, stack in self._stacks.items()}

    def score(self, images: Mapping[str, Image]) -> dict[str, Any]:
        """PSNR in dB and SSIM of each place."""
        return {name: quality(image, self.truth[name], self._inside[name]) for name, image in images.items()}


def quality(image: Image, reference: Image, inside: NDArray[np.bool_]) -> dict[str, float]:
    """PSNR in dB, mean SSIM, and the mean value as a part of the true one, over the pixels `inside`."""
    peak = float(np.ptp(reference))
    error = float(np.mean((image[inside].astype(np.float64) - reference[inside]) ** 2))
    similar = np.asarray(structural_similarity(image, reference, data_range=peak, full=True)[1])
    found = {"psnr_db": round(10 * math.log10(peak**2 / error), 2), "ssim": round(float(similar[inside].mean()), 4)}
    return found | {"brightness": round(float(image[inside].mean() / reference[inside].mean()), 3)}


def truth(part: Part, first: int, cache: Path) -> dict[str, Image]:
    """Noise-free slices (rows, cols) in mm^-1 of the turn from frame `first` on; made once."""
    path = cache / f"truth-{part.name}-{part.start_s:g}s-{first}.npz"
    if not path.exists():
        simulation = Experiment(scenario_of(part.name, binning=part.binning, start_s=part.start_s))
        turn = range(first, first + simulation.scenario.scanner.views_a_turn)
        window = window_of(simulation.geometry, noise_free_views(simulation, turn))
        engine, places = Reconstructor(simulation.geometry), places_of(simulation.geometry)
        slices = {name: full_slice(engine.reconstruct(window, place)) for name, place in places.items()}
        with TemporaryDirectory(dir=cache) as private:
            made = Path(private) / path.name
            np.savez(made, **slices)  # pyright: ignore[reportArgumentType]
            made.replace(path)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
