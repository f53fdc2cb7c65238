"""Put the pictures of a demo's report side by side: the slice as reconstructed, denoised, and their difference.

Usage: python -m tools.demo_picture REPORT.json [PICTURE.png], where `tango-jit demo --report REPORT.json` wrote the
report and its pictures. Without a second argument docs/images/demo.png is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DEFAULT = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.png"
PARTS = {"raw": "as reconstructed", "denoised": "denoised", "difference": "difference"}
GAP, CAPTION, GREYS = 8, 24, 64  # pixels, pixels, shades: enough for the eye, and half the bytes


def side_by_side(images: Mapping[str, Image.Image], captions: Mapping[str, str] = PARTS) -> Image.Image:
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
    report = Path(sys.argv[1])
    written = json.loads(report.read_text())["images"]
    if not set(written) >= set(PARTS):
        raise SystemExit(f"{report}: expected the pictures {', '.join(PARTS)}, got {', '.join(written) or 'none'}")
    # The report may have been moved, with its pictures beside it.
    images = {name: Image.open(report.with_name(Path(written[name]).name)) for name in PARTS}
    target = Path(sys.argv[2]) if len(sys.argv) == 3 else DEFAULT
    side_by_side(images).save(target, optimize=True)
    print(f"wrote {target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
