"""A simulated experiment on disk: written frame by frame, and gone on with where it was interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from sim import consistency
from sim.experiment import Experiment
from sim.scenario import Scenario
from tango_jit.recordings import (
    Plan,
    RecordingError,
    RecordingWriter,
    create_recording,
    format_of,
    resume_recording,
)

MOST_FRAMES = 1_000_000


def record(
    scenario: Scenario,
    path: str | os.PathLike[str],
    *,
    frames: int,
    format: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `frames` frames of a simulated experiment to a new recording.

    `format`: nxtomo, dxchange or flexray; None: told by the ending of `path`. It is written beside its place, at
    `part_of(path)`, and appears there when it is complete. What an interrupted call with the same scenario left is gone
    on with; frames are the same to the bit as without the interruption. `progress(done, total)` is called after each
    frame. Raises FileExistsError where there is a recording already, OSError where the disk is too small,
    RecordingError where what was left belongs to another scenario.
    """
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"frames: expected 1 to {MOST_FRAMES}, got {frames}")
    target = os.fspath(path)
    if not os.path.isdir(folder := os.path.dirname(os.path.abspath(target))):
        raise FileNotFoundError(f"{target}: expected a folder that exists, got {folder}")
    if os.path.exists(target):
        raise FileExistsError(f"{target}: expected a new recording, but there is one of that name")
    experiment = Experiment(scenario)
    consistency.check(experiment.sample, frames * experiment.period_s)
    with _writer(experiment, target, frames, format) as writer:
        for image in experiment.frames(range(writer.frames, frames)):
            writer.append(image)
            if progress is not None:
                progress(image.frame + 1, frames)
    os.replace(writer.path, target)


def _writer(experiment: Experiment, target: str, frames: int, format: str | None) -> RecordingWriter:
    numbers = np.arange(frames)
    plan = Plan(
        numbers,
        np.array([experiment.angle_rad(n) for n in numbers.tolist()]),
        np.array([experiment.time_s(n) for n in numbers.tolist()]),
        "uint16",
    )
    part, text = part_of(target), experiment.scenario.to_toml()
    means = experiment.header, experiment.dark(), experiment.flat()
    if os.path.exists(part):
        try:
            return resume_recording(part, *means, plan=plan, scenario=text)
        except RecordingError as error:
            raise RecordingError(
                f"{part}: was left by another run that was interrupted; remove it, or choose another place ({error})"
            ) from error
    return create_recording(part, *means, format=format_of(target, format), plan=plan, scenario=text)


def part_of(target: str) -> str:
    """Where a recording is written until it is complete: its ending, which tells the format, stays."""
    stem, ending = os.path.splitext(target.rstrip("/"))
    return f"{stem}.part{ending}"
