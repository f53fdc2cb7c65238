"""Fig. 10 and 11: T3 learns during the experiment, with and without a buffer; a pretrained one; total variation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.restoration import denoise_tv_chambolle

from benchmarks.paper.family import Form, settings_of
from benchmarks.paper.judge import accuracies, denoised, quality
from benchmarks.paper.runs import Found
from benchmarks.paper.store import Store
from benchmarks.paper.story import FRAME_S, STORY, Story
from benchmarks.paper.training import Lesson
from tango_jit.learn import Trainer, TrainerSettings, noise2inverse
from tango_jit.learn.weights import Weights

Image = NDArray[np.float32]
TV_ITERATIONS = 300
TV_TRIED = tuple(0.005 * 2 ** (n / 2) for n in range(15))  # for data in units of their range


@dataclass(frozen=True)
class Online:
    """One strategy on the stream.

    `buffer`: pairs; 0: none, each batch of pairs is stepped on once. `pretrained`: learned before the stream begins,
    from all that came before the jump, in as many steps as the others take; the buffer says nothing then.
    """

    buffer: int = 320
    pretrained: bool = False
    network: str = "T3"
    form: Form = "released"
    story: Story = STORY
    samples: int = 640  # that a point of the curve is made of
    figure = "10, 11"
    needs = ()

    @property
    def name(self) -> str:
        what = "pretrained" if self.pretrained else f"buffer-{self.buffer}" if self.buffer else "no-buffer"
        return f"online-{self.network}-{self.form}-{what}"

    @property
    def settings(self) -> TrainerSettings:
        found = settings_of(self.network, self.form)
        return found if self.pretrained else replace(found, buffer_size=max(self.buffer, found.batch_size))

    @property
    def steps(self) -> int:
        """That a strategy with a buffer takes."""
        return int((self.story.end - self.story.start) * FRAME_S * self.story.steps_s)

    @property
    def cost_s(self) -> float:
        steps = self.steps if self.buffer or self.pretrained else self.steps * self.story.batches_s / self.story.steps_s
        return 35 + steps * (0.02 if self.form == "released" else 0.08)

    def do(self, store: Store) -> Found:
        story, network = self.story, self.settings.network
        truths, curve, shots = story.truths(network, store.cache), [], {}
        for frame, weights, steps in self._weights(story.frames):
            pairs = torch.from_numpy(story.samples(network, frame, self.settings.patch_size, self.samples))
            stack = story.film.slice(network, story.first(network, frame), story.place(frame))
            images = {"raw": stack[:, network.shown].mean(0), "denoised": denoised(weights, stack)}
            row = {"frame": frame, "time_s": story.time_s(frame), "steps": steps}
            row |= accuracies(weights, noise2inverse.samples(pairs))
            row |= {kind: quality(image, truths[frame], story.inside(frame)) for kind, image in images.items()}
            curve.append(row)
            shots |= {f"{kind}_{frame}": image for kind, image in [*images.items(), ("truth", truths[frame])]}
        np.savez(store.shots(self.name), **{name: shot.astype(np.float16) for name, shot in shots.items()})
        return self._told(curve), {
            f"denoised_{frame}": story.cut(shots[f"denoised_{frame}"]) for frame in story.moments
        }

    def _told(self, curve: list[dict[str, Any]]) -> dict[str, Any]:
        story = {"start": self.story.start, "jump": self.story.jump, "end": self.story.end, "frame_s": FRAME_S}
        network = self.settings.network.to_dict()
        return {"network": network, "buffer": self.buffer, "samples": self.samples, "story": story, "curve": curve}

    def _weights(self, frames: list[int]) -> Iterator[tuple[int, Weights, int]]:
        """At each of these frames."""
        if self.pretrained:
            lesson = Lesson(self.story.film, self.story.top, self.story.jump, self.settings)
            while lesson.trainer.steps < self.steps:
                lesson.learn(0.0)
            weights = lesson.trainer.weights()
            yield from ((frame, weights, lesson.trainer.steps) for frame in frames)
            return
        stream = Stream(self.story, self.settings, single=not self.buffer)
        for frame in frames:
            stream.go_on(frame)
            yield frame, stream.trainer.weights(), stream.trainer.steps


class Stream:
    """Learns as frames come. `single`: a step for each new batch and no more."""

    def __init__(self, story: Story, settings: TrainerSettings, *, single: bool, seed: int = 0) -> None:
        self.trainer = Trainer(settings, seed=seed)
        self._story, self._single = story, single
        self._random = np.random.default_rng(seed)
        self._frame, self._batches = story.start, 0

    def go_on(self, until: int) -> None:
        """All that happens before frame `until` has come."""
        for frame in range(self._frame, until):
            come_s = (frame + 1 - self._story.start) * FRAME_S
            while self._batches < come_s * self._story.batches_s:
                self.trainer.add(self._pairs(frame), scored=False)
                self._batches += 1
                if self._single:
                    self.trainer.step()
            while not self._single and self.trainer.steps < math.floor(come_s * self._story.steps_s):
                self.trainer.step()
        self._frame = until

    def _pairs(self, frame: int) -> Image:
        settings, story = self.trainer.settings, self._story
        size, network = settings.patch_size, settings.network
        poses = story.box(frame).draw(self._random, settings.batch_size, size)
        return story.film.pairs(network, story.first(network, frame), poses, (size, size))


@dataclass(frozen=True)
class OnlineTV:
    """Chambolle's total variation on the same stream: its weight is tuned on pairs from before the stream begins."""

    network: str = "T3"
    story: Story = STORY
    every: int = 3  # of the moments at which networks are looked at; those that are pictured too
    samples: int = 96
    tried: tuple[float, ...] = TV_TRIED
    figure = "10, 11"
    needs = ()
    name = "online-TV"
    cost_s = 150.0

    def do(self, store: Store) -> Found:
        story, settings = self.story, settings_of(self.network, "paper")
        network, size = settings.network, settings.patch_size
        before = story.samples(network, story.start - story.soon, size, self.samples)[:, :, network.shown]
        unit = noise2inverse.robust_scale(torch.from_numpy(before))
        tuned = {weight: tv_accuracy(before / unit, weight) for weight in self.tried}
        weight = min(tuned, key=tuned.__getitem__)
        truths, curve, pictures = story.truths(network, store.cache), [], {}
        for frame in sorted({*story.frames[:: self.every], *story.moments}):
            pairs = story.samples(network, frame, size, self.samples)[:, :, network.shown]
            stack = story.film.slice(network, story.first(network, frame), story.place(frame))[:, network.shown]
            image = np.mean([total_variation(half / unit, weight) * unit for half in stack], 0).astype(np.float32)
            row = {"frame": frame, "time_s": story.time_s(frame), "accuracy": tv_accuracy(pairs / unit, weight)}
            curve.append(row | {"denoised": quality(image, truths[frame], story.inside(frame))})
            if frame in story.moments:
                shots = {"raw": stack.mean(0), "denoised": image, "truth": truths[frame]}
                pictures |= {f"{kind}_{frame}": story.cut(shot) for kind, shot in shots.items()}
        told = {"weight": round(weight, 4), "unit_per_mm": unit, "iterations": TV_ITERATIONS, "curve": curve}
        return told | {"tuned": {f"{tried:.4g}": found for tried, found in tuned.items()}}, pictures


def total_variation(image: Image, weight: float) -> Image:
    """(rows, cols) in units of its range."""
    return denoise_tv_chambolle(image, weight, eps=0, max_num_iter=TV_ITERATIONS)


def tv_accuracy(pairs: Image, weight: float) -> float:
    """Mean |TV(u)-v|^2 / |u-v|^2 of pairs (n, 2, rows, cols)."""
    found = [((total_variation(u, weight) - v) ** 2).sum() / ((u - v) ** 2).sum() for u, v in pairs.astype(np.float64)]
    return round(float(np.mean(found)), 4)
