"""What a slice should have shown: the ground truth of a simulated recording, and how near a picture comes to it.

A moving object has two references. The noise-free reconstruction of the same frames is what denoising can reach; the
object itself, averaged over the time of these frames, is what a perfect reconstruction would show.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from sim.experiment import Experiment
from sim.replay import Replay
from sim.scenario import ScenarioError, parse
from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon.pipeline import Options, Pipeline, full_slice
from tango_jit.recordings import open_recording
from tango_jit.streams.messages import Header, Image

Picture = NDArray[np.float32]


class References(NamedTuple):
    """(rows, cols) in 1/mm each."""

    noise_free: Picture
    object: Picture


class Truth:
    """The ground truth of a recording that carries its scenario."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises ScenarioError for a recording that was not simulated; what `open_recording` raises."""
        with open_recording(path) as recording:
            if recording.scenario is None:
                raise ScenarioError(f"{os.fspath(path)}: expected a simulated recording, this one carries no scenario")
            self.numbers = [int(number) for number in recording.frame_numbers]
            self._angles_rad = [float(angle) for angle in recording.angles_rad]
            self.experiment = Experiment(parse(recording.scenario, os.fspath(path)))

    def _replayed(self, indices: Sequence[int]) -> Iterator[Image]:
        """Noise-free frames with angles, numbers and poses as the detector sends them, over the end of a loop too."""
        ends = [(a, b) for a, b in pairwise(indices) if b <= a]
        first, last = (ends[0][1], ends[0][0]) if ends else (0, len(self.numbers) - 1)
        views = _Views(self.experiment.header, self.numbers, self._angles_rad)
        replay = Replay(views, "truth", first, last, lambda: True, at=indices[0])
        numbers = [self.numbers[index] for index in indices]
        for index, made in zip(indices, self.experiment.noise_free_frames(numbers), strict=True):
            views.data[index] = made.data
            found = replay.peek()
            assert found is not None and found[0] == index, "the frames of a window follow each other"
            yield found[1]
            replay.take()
            del views.data[index]

    def references(
        self, indices: Sequence[int], places: Sequence[SliceGeometry], *, options: Options | None = None
    ) -> list[References]:
        """Both references of slices that were reconstructed from the frames at `indices` of the recording.

        `options` of the reconstruction: the noise-free one is made with the same (None: those of a new device).
        Raises ValueError where the frames do not fill a window.
        """
        numbers = [self.numbers[index] for index in indices]
        pipeline = Pipeline(
            Header("truth", "raw", self.experiment.geometry, True), None, None, options or Options(), "cpu"
        )
        for image in self._replayed(indices):
            pipeline.add(image, pipeline.filter(image))
        window = pipeline.window()
        if window is None:
            raise ValueError(f"truth: expected frames that fill a window, got {len(numbers)}: {pipeline.obstacle}")
        return [
            References(
                full_slice(pipeline.reconstruct(window, place)),
                self.experiment.mean_truth(place, numbers).astype(np.float32),
            )
            for place in places
        ]


class _Views:
    """Noise-free frames as a recording that a `Replay` can go through."""

    dark = flat = None

    def __init__(self, header: Header, numbers: Sequence[int], angles_rad: Sequence[float]) -> None:
        self.header, self.frame_numbers, self._angles_rad = header, numbers, angles_rad
        self.data: dict[int, Picture] = {}

    def __len__(self) -> int:
        return len(self.frame_numbers)

    def frame(self, index: int, /) -> Image:
        empty = np.empty((0, 0), np.float32)  # of frames that are only asked for their angle
        angle = self._angles_rad[index]
        return Image("truth", self.frame_numbers[index], angle, 0.0, self.data.get(index, empty), None)

    def close(self) -> None:
        self.data.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def in_view(scan: ScanGeometry, place: SliceGeometry) -> NDArray[np.bool_]:
    """(rows, cols): pixels of a slice that every view sees."""
    points = place.points()
    radius = np.hypot(points[..., 0], points[..., 1])
    if scan.rows == 1:
        return radius < scan.radius_mm
    matrix = scan.matrices(0.0)[0]
    slope = float(np.linalg.norm(matrix[1, :3] - matrix[1, 3] * matrix[2, :3]))  # rows per mm at the axis
    low, high = (matrix[1, 3] + 0.5) / slope, (scan.rows - 0.5 - matrix[1, 3]) / slope
    shrink = np.ones_like(radius)
    if scan.beam == "cone":
        shrink = np.maximum(1 - radius / np.hypot(*scan.source_mm[:2]), 0)
    return (radius < scan.radius_mm) & (points[..., 2] > -low * shrink) & (points[..., 2] < high * shrink)


def scores(picture: Picture, reference: Picture, inside: NDArray[np.bool_]) -> dict[str, float | None]:
    """PSNR in dB (the reference's range as peak) and mean SSIM over the pixels `inside`; None: too few to compare."""
    if inside.sum() < 100 or min(picture.shape) < 7:
        return {"psnr_db": None, "ssim": None}
    low, high = float(reference[inside].min()), float(reference[inside].max())
    error = float(np.mean((picture[inside].astype(np.float64) - reference[inside]) ** 2))
    similar = np.asarray(structural_similarity(picture, reference, data_range=high - low, full=True)[1])
    psnr = 10 * np.log10((high - low) ** 2 / error) if error > 0 else None
    return {"psnr_db": None if psnr is None else round(float(psnr), 2), "ssim": round(float(similar[inside].mean()), 4)}


def compared(raw: Picture, denoised: Picture, references: References, inside: NDArray[np.bool_]) -> dict[str, Any]:
    """{reference: {raw | denoised: {psnr_db, ssim}}}."""
    return {
        name: {
            "raw": scores(raw, reference, inside),
            "denoised": scores(denoised, reference, inside),
        }
        for name, reference in references._asdict().items()
    }
