"""Makes a picture of a run again, from its projections, its weights and what is written of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tango_jit.learn.blend import blended
from tango_jit.learn.inference import Predictor
from tango_jit.learn.one_slice import WHOLE, OneSlice
from tango_jit.learn.unet import NetworkConfig
from tango_jit.learn.weights import unpack
from tango_jit.recon.pipeline import Pipeline, full_stack
from tango_jit.recon.window import Window
from tango_jit.recordings import Recording
from tango_jit.runs import Picture, Run
from tango_jit.services.reconstructor_settings import options
from tango_jit.services.reconstructor_signals import CORRECTIONS
from tango_jit.stacks import neighbours
from tango_jit.streams import Weights

Image = NDArray[np.float32]
DECIDE = {"filter", "center_offset_px", "full_turn", "edge_extend", "saturation_counts"} | {s.name for s in CORRECTIONS}
BEFORE = 1  # frames before the first one of the picture: zingers are told by the one before


class Remade(NamedTuple):
    """Images (rows, cols) in mm^-1, or what the task shows; `missing`: how many frame numbers between the first and the
    last one are not among the projections. The picture may have had those."""

    denoised: Image
    raw: Image
    missing: int


def remake(run: Run, picture: Picture, projections: Recording) -> Remade:
    """The picture as it was made, by this computer's processor; equal but for rounding.

    `projections`: those of the run. What corrections learned over many turns (rings)
    is as it was only if they begin where the series began.

    Raises ValueError in words where frames, settings or weights are missing, or the network saw several moments.
    """
    weights = None if picture.mode == "none" else run.weights(picture.weights_sha256)
    network = None if weights is None else NetworkConfig.from_dict(weights.network)
    if network is not None and network.frames > 1:
        raise ValueError(
            f"{run.path}: expected a network of one moment, got one of {network.frames}: not made again yet"
        )
    settings = settings_at(run, "reconstructor", picture.timestamp_s)
    pipeline, window = _window(picture, projections, settings)
    missing = window.last_frame - window.first_frame + 1 - len(window.frames)
    stack = neighbours(picture.geometry, 1 if network is None else network.depth)
    planes = np.concatenate([pipeline.reconstruct(window, place) for place in stack], axis=1)
    if len(planes) == 2:
        planes = np.concatenate([planes, full_stack(planes)[None]])
    raw = planes[WHOLE, len(stack) // 2]
    if weights is None:
        return Remade(raw, raw, missing)
    return Remade(_denoised(picture, weights, planes), raw, missing)


def settings_at(run: Run, member: str, time_s: float) -> dict[str, Any]:
    """The settings of a device at that time. Raises ValueError if they are not known, or one that decides how pictures
    look changed just then."""
    told = run.facts().get(member, {})
    if "settings" not in told:
        why = told.get("trouble", "nothing is written of it")
        raise ValueError(f"{run.path}: expected the settings of the {member}, got none: {why}")
    settings = dict(told["settings"])
    lines = [line for line in run.journal() if line["kind"] == "setting" and line["device"] == member]
    for line in lines:
        if line["name"] in DECIDE and line["after_s"] < time_s < line["time_s"]:
            changed = f"{line['name']} changed from {line['before']} to {line['now']}"
            raise ValueError(f"{run.path}: expected the settings of a picture, got one of when {changed}")
    closed = (line["settings_until_s"] for line in run.journal() if "settings_until_s" in line)
    until_s = next((s for s in closed if s is not None), float("inf"))
    if time_s > until_s:
        raise ValueError(
            f"{run.path}: expected the settings of a picture, but nobody looked again before the file was closed"
        )
    for line in reversed(lines):
        if time_s < line["time_s"] <= run.facts_s:
            settings[line["name"]] = line["before"]
    for line in lines:
        if run.facts_s < line["time_s"] <= time_s:
            settings[line["name"]] = line["now"]
    return settings


def _window(picture: Picture, projections: Recording, settings: Mapping[str, Any]) -> tuple[Pipeline, Window]:
    """A pipeline whose window ends with the last frame of the picture."""
    opt = options(settings)
    numbers = np.asarray(projections.frame_numbers)
    first = -1 if opt.corrections.ring_turns else picture.first_frame - BEFORE
    wanted = np.flatnonzero((numbers >= first) & (numbers <= picture.last_frame))
    missing = f"{picture.name}: expected the frames {picture.first_frame} to {picture.last_frame} among the projections"
    if projections.header.series != picture.series:
        raise ValueError(f"{missing} of {picture.series!r}, got those of {projections.header.series!r}")
    pipeline = Pipeline(projections.header, projections.dark, projections.flat, opt, "cpu")
    for index in wanted:
        image = projections.frame(int(index))
        pipeline.add(image, pipeline.filter(image))
    window = pipeline.window()
    if window is None or (window.first_frame, window.last_frame) != (picture.first_frame, picture.last_frame):
        had = f"frames {numbers.min()} to {numbers.max()}" if len(numbers) else "none"
        got = "no full turn" if window is None else f"a turn of {window.first_frame} to {window.last_frame}"
        raise ValueError(f"{missing}, got {got} ({had} are there)")
    return pipeline, window


def _denoised(picture: Picture, weights: Weights, planes: Image) -> Image:
    predictor = Predictor(unpack(weights), "auto", torch.device("cpu"))
    with torch.inference_mode():
        one = OneSlice(predictor, weights.scale, torch.from_numpy(planes), None, picture.complete)
        task = predictor.config.learns
        if picture.guarded:
            shown = one.raw if task.restores else one.simple
        else:
            shown = one.denoised("full" if picture.mode == "full" else "halves")
            if not task.restores:
                shown = one.picture(shown)
            elif picture.shares and min(picture.shares) < 1:
                shown = blended(one.raw, shown, torch.tensor(picture.shares, dtype=torch.float64))
        return shown.numpy()
