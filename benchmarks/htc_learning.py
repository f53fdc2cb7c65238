"""How fast a denoiser learns on a real scan: PSNR of a slice over time, raw and denoised.

    python -m benchmarks.htc_learning --seconds 30 --out benchmarks/results/htc_learning.json --picture learned.png
    python -m benchmarks.htc_learning --preset PAPER --seconds 60
    python -m benchmarks.htc_learning --set learning_rate=0.001 --set patch_size=64

HTC phantom `ta`: 720 views, played in a loop as 4 interleaved rotations of 180. The slice (512 x 512 pixels of
0.148322 mm) is reconstructed from a window of 180 views; each of its halves has 90. PSNR is taken in the disc (radius
225 pixels) against the slice of all 720 views, whose own noise caps it at about 30.5 dB; its peak is the range of that
slice in the disc. `psnr_strict_db` is what is left after the reference's noise is taken out: against the other three
rotations alone, with their noise power, known from their differences, subtracted.

Reconstruction, scoring and training take turns in one process, and frames arrive by the clock, so that none is used
before it would have come. The clock stops for tests.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from tango_jit.geometry import SliceGeometry
from tango_jit.learn import SETTINGS, Denoiser, PatchSampler, Result, Trainer, TrainerSettings
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recon.window import ProjectionWindow, Window
from tests.real_scans import HTC_PIXEL_MM, htc_geometry, htc_order, htc_sinogram

Array = NDArray[np.float64]
Image = NDArray[np.float32]

VIEWS = 180  # of one rotation
LOOP = 720  # of the recording
SLICE = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, -1, 0), pixel_mm=HTC_PIXEL_MM, shape=(512, 512))


class HtcScan:
    """The phantom as an endless stream of filtered views, with its reference; `window` ends at the last view sent."""

    def __init__(self, name: str = "ta") -> None:
        self.geometry = htc_geometry()
        sinogram, _ = htc_sinogram(name)
        order, self._angles_rad = htc_order()
        self._views = Preprocessor(self.geometry, linear=True)(sinogram[order][:, None, :])
        self.reconstructor = Reconstructor(self.geometry)
        rotations = np.stack([self._rotation(number) for number in range(4)])
        row, col = np.mgrid[:512, :512] - 255.5
        self._disc = row**2 + col**2 < 225**2
        self.reference, others = rotations.mean(axis=0), rotations[1:]
        self._others = others.mean(axis=0)
        pairs = [(0, 1), (0, 2), (1, 2)]
        self._noise = sum(self._mse(others[i], others[j]) / 2 for i, j in pairs) / len(pairs) / len(others)
        self.peak = np.ptp(self.reference[self._disc])
        self._stream = ProjectionWindow(self.geometry)
        self.sent = 0
        self.send(VIEWS)
        self.first = self.halves(self.window)

    def _rotation(self, number: int) -> Image:
        """The slice of one rotation of 180 views."""
        stream = ProjectionWindow(self.geometry)
        for view in range(number * VIEWS, (number + 1) * VIEWS):
            stream.add(view, self._angles_rad[view], self._views[view])
        return self.halves(_filled(stream)).mean(axis=0)

    def _mse(self, image: Image, reference: Image) -> float:
        return float(np.mean((image - reference)[self._disc] ** 2, dtype=np.float64))

    def send(self, until: int) -> None:
        """Send views until `until` were sent altogether."""
        while self.sent < until:
            loop, view = divmod(self.sent, LOOP)
            self._stream.add(self.sent, self._angles_rad[view] + loop * 8 * math.pi, self._views[view])
            self.sent += 1

    @property
    def window(self) -> Window:
        return _filled(self._stream)

    def halves(self, window: Window) -> Image:
        """Even and odd half of the slice, (2, 512, 512) in mm^-1."""
        return self.reconstructor.reconstruct(window, SLICE)[:2, 0]

    def psnr_db(self, image: Image) -> float:
        """Against all 720 views."""
        return 10 * math.log10(self.peak**2 / self._mse(image, self.reference))

    def psnr_strict_db(self, image: Image) -> float:
        """Of an image made from the first rotation, against the other three, without their noise."""
        return 10 * math.log10(self.peak**2 / max(self._mse(image, self._others) - self._noise, 1e-12))


def _filled(stream: ProjectionWindow) -> Window:
    window = stream.window()
    if window is None:
        raise RuntimeError(f"window: expected a full turn, got {stream.fill:.2f} of it")
    return window


class Learner:
    """Trains on the stream of a scan and tests on the slice of its first rotation."""

    def __init__(self, scan: HtcScan, settings: TrainerSettings, seed: int = 0) -> None:
        self.scan = scan
        self.trainer = Trainer(settings, seed=seed)
        self._sampler = PatchSampler(scan.geometry, settings.patch_size, seed=seed)
        self._even, self._odd = scan.first

    def generate(self, pairs: int) -> None:
        """Reconstruct new pairs from the window and hand them to the trainer."""
        window, size = self.scan.window, self.trainer.settings.patch_size
        poses = self._sampler.draw(pairs, {"xy": SLICE}, window.matrices)
        self.trainer.add(self.scan.reconstructor.reconstruct_pairs(window, poses, (size, size)))

    def denoised(self) -> tuple[Result, Result]:
        """The slice of the first rotation as the network alone makes it, and as it is shown."""
        denoiser = Denoiser()
        denoiser.load(self.trainer.weights())
        shown = denoiser(self._even, self._odd)
        denoiser.guard = False
        return denoiser(self._even, self._odd), shown

    def test(self) -> dict[str, Any]:
        """Figures of that slice; `shown`: with the share of the network that the evidence supports, raw if guarded."""
        result, shown = self.denoised()
        return {
            "psnr_db": round(self.scan.psnr_db(result.image), 3),
            "psnr_strict_db": round(self.scan.psnr_strict_db(result.image), 2),
            "psnr_shown_db": round(self.scan.psnr_db(shown.image), 3),
            "accuracy": round(result.accuracy or math.nan, 4),
            "patch_accuracy": round(self.trainer.patch_accuracy or math.nan, 4),
            "guarded": shown.guarded,
        }

    def raw(self) -> dict[str, float]:
        raw = (self._even + self._odd) / 2
        return {
            "psnr_db": round(self.scan.psnr_db(raw), 3),
            "psnr_strict_db": round(self.scan.psnr_strict_db(raw), 2),
        }

    def picture(self, path: Path) -> None:
        """Half of the slice: raw, denoised, and of all 720 views."""
        result, _ = self.denoised()
        panels = [image[128:384, 128:384] for image in (result.raw, result.image, self.scan.reference)]
        low, high = 0.0, 1.1 * float(np.percentile(self.scan.reference, 99))
        grey = np.clip((np.hstack(panels) - low) / (high - low), 0, 1)
        Picture.fromarray((255 * grey).astype(np.uint8)).save(path, optimize=True)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """One training run; returns the report."""
    settings = SETTINGS[arguments.preset].edited(**dict(arguments.set))
    scan = HtcScan(arguments.phantom)
    learner = Learner(scan, settings, arguments.seed)
    learner.generate(1)  # compile
    learner = Learner(scan, settings, arguments.seed)
    print(f"raw {learner.raw()}", flush=True)
    times = [t for t in (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300) if t < arguments.seconds]
    curve: list[dict[str, Any]] = []
    spent = cpu = 0.0
    for due in [*times, arguments.seconds]:
        while spent < due:
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            scan.send(VIEWS + int(spent / arguments.frame_period))
            learner.generate(arguments.pairs)
            for _ in range(arguments.steps_per_batch):
                learner.trainer.step()
            spent += time.perf_counter() - wall_start
            cpu += time.process_time() - cpu_start
        curve.append({"t_s": round(spent, 2), "cpu_s": round(cpu, 2), "steps": learner.trainer.steps, **learner.test()})
        print(" ".join(f"{name} {value}" for name, value in curve[-1].items()), flush=True)
    if arguments.picture is not None:
        learner.picture(arguments.picture)
    return {
        "benchmark": "htc_learning",
        "machine": machine(),
        "settings": {
            "phantom": arguments.phantom,
            "preset": settings.network.preset,
            "network": settings.network.to_dict(),
            **{name: getattr(settings, name) for name in vars(settings) if name != "network"},
            "pairs": arguments.pairs,
            "steps_per_batch": arguments.steps_per_batch,
            "frame_period_s": arguments.frame_period,
            "seed": arguments.seed,
            "threads": arguments.threads,
        },
        "raw": learner.raw(),
        "curve": curve,
        "pairs_per_s": round(curve[-1]["steps"] / arguments.steps_per_batch * arguments.pairs / spent, 1),
        "steps_per_s": round(curve[-1]["steps"] / spent, 1),
    }


def machine() -> dict[str, Any]:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": capabilities.get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "bfloat16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of training, reconstruction of patches included")
    parser.add_argument("--preset", choices=[*SETTINGS], default="PRODUCT")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="FIELD=VALUE", help="of a preset")
    parser.add_argument("--pairs", type=int, default=32, help="new pairs at a time")
    parser.add_argument("--steps-per-batch", type=int, default=4, help="training steps between them")
    parser.add_argument("--frame-period", type=float, default=0.024, help="s")
    parser.add_argument("--phantom", default="ta")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where to write the report (JSON)")
    parser.add_argument("--picture", type=Path, help="where to write a picture (PNG): raw, denoised, all 720 views")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(arguments.threads)
    report = run(arguments)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
