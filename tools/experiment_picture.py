"""A picture of a simulated experiment: truth, noise-free reconstruction, raw and denoised slices side by side.

Usage: python -m tools.experiment_picture EXPERIMENT [PICTURE.png]. The looped recording of the demo is gone through
once, as the devices do it: every 60 frames new pairs are reconstructed and the network trains. Above the vertical
slice, below a horizontal one. Without a second argument docs/images/EXPERIMENT.png is written.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from sim.prepared import prepared
from sim.scenario import load
from sim.truth import Truth, compared, in_view
from tango_jit.geometry import SliceGeometry
from tango_jit.learn import Denoiser, PatchSampler, Trainer
from tango_jit.recon.pipeline import Options, Pipeline, full_slice
from tango_jit.recon.reconstructor import Reconstructor
from tango_jit.recordings import open_recording

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
CAPTIONS = {
    "object": "object",
    "noise_free": "without noise",
    "raw": "as reconstructed",
    "denoised": "denoised",
}
EVERY, PAIRS, STEPS = 60, 128, 60  # frames, new pairs, training steps
HEIGHTS_MM = {"tablet-soap": 4.0, "tablet-gel": -20.0}  # of the horizontal slice
BRIGHTEST = 0.05  # 1/mm
GAP, CAPTION, GREYS = 8, 24, 64  # pixels, pixels, shades: enough for the eye, and half the bytes


def places(height_mm: float) -> dict[str, SliceGeometry]:
    """Pixels of 0.25 mm, 80 mm wide."""
    return {
        "xz": SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 0, -1), pixel_mm=0.25, shape=(320, 320)),
        "xy": SliceGeometry.centered((0, 0, height_mm), (1, 0, 0), (0, -1, 0), pixel_mm=0.25, shape=(320, 320)),
    }


def learned(path: Path, slices: dict[str, SliceGeometry]) -> tuple[dict[str, NDArray[np.float32]], Denoiser, range]:
    """Halves (2, rows, cols) of the last slices, a denoiser that has seen the recording once, and the last frames."""
    with open_recording(path) as source:
        scan, trainer, first = source.header.geometry, Trainer(), 0
        pipeline = Pipeline(source.header, source.dark, source.flat, Options(), "cpu")
        size = trainer.settings.patch_size
        sampler, reconstructor = PatchSampler(scan, size), Reconstructor(scan)
        for index in range(len(source)):
            image = source.frame(index)
            pipeline.add(image, pipeline.filter(image))
            window = pipeline.window()
            if window is None or (index + 1) % EVERY:
                continue
            poses = sampler.draw(PAIRS, slices, window.matrices)
            trainer.add(reconstructor.reconstruct_pairs(window, poses, (size, size)))
            for _ in range(STEPS):
                trainer.step()
            first = index + 1 - 150
        window = pipeline.window()
        assert window is not None
        halves = {name: pipeline.reconstruct(window, place)[:2, 0] for name, place in slices.items()}
    denoiser = Denoiser()
    denoiser.load(trainer.weights())
    denoiser.guard = False
    return halves, denoiser, range(first, first + 150)


def side_by_side(images: Mapping[str, Image.Image], captions: Mapping[str, str]) -> Image.Image:
    """One picture in shades of grey; `images` are those of `captions`, of one size. Raises ValueError otherwise."""
    sizes = {image.size for image in images.values()}
    if set(images) != set(captions) or len(sizes) != 1:
        raise ValueError(f"pictures: expected {', '.join(captions)} of one size, got {list(images)} of {sorted(sizes)}")
    width, height = sizes.pop()
    whole = Image.new("L", (len(captions) * (width + GAP) - GAP, height + CAPTION), 255)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(15)
    for index, (name, caption) in enumerate(captions.items()):
        left = index * (width + GAP)
        whole.paste(images[name].convert("L"), (left, CAPTION))
        draw.text((left + width / 2, CAPTION / 2), caption, fill=0, font=font, anchor="mm")
    return whole.quantize(GREYS)


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    experiment = sys.argv[1]
    target = Path(sys.argv[2]) if len(sys.argv) == 3 else IMAGES / f"{experiment}.png"
    path = prepared(load(experiment), Console())
    slices = places(HEIGHTS_MM.get(experiment, 0.0))
    halves, denoiser, frames = learned(path, slices)
    truth = Truth(path)
    columns: dict[str, list[NDArray[np.float32]]] = {name: [] for name in CAPTIONS}
    for (name, place), references in zip(slices.items(), truth.references(frames, list(slices.values())), strict=True):
        raw, denoised = full_slice(halves[name][:, None]), denoiser(halves[name][0], halves[name][1]).image
        found = compared(raw, denoised, references, in_view(truth.experiment.geometry, place))
        print(name, found)
        for part, picture in (*references._asdict().items(), ("raw", raw), ("denoised", denoised)):
            columns[part].append(picture)
    images = {
        part: Image.fromarray((255 * np.clip(np.concatenate(pictures) / BRIGHTEST, 0, 1)).astype(np.uint8))
        for part, pictures in columns.items()
    }
    side_by_side(images, CAPTIONS).save(target, optimize=True)
    print(f"wrote {target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
