"""What the experiments offer: PSNR of every slice as it is, and denoised by total variation that knows the answer.

python -m benchmarks.lab [--experiments htc-ta-90 tablet-gel] [--out FILE] [--pictures FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from PIL import Image as Picture

from benchmarks.lab import NAMES, Experiment, Windows, load, oracle
from benchmarks.lab.experiment import Image
from sim.report import machine

RESULT = Path(__file__).parents[1] / "results" / "lab.json"


def rows_of(experiment: Experiment, pictures: Path | None) -> Iterator[dict[str, Any]]:
    """One for each place and reference; the slice is that of the last turn."""
    for place, raw in Windows(experiment).raw(experiment.frames).items():
        target, scores = experiment.targets[place], experiment.score(place, raw)
        for name, reference in target.references.items():
            found = oracle(experiment, place, raw, name)
            yield {
                "experiment": experiment.name,
                "views_a_turn": experiment.views_a_turn,
                "frames": experiment.frames,
                "place": place,
                "reference": name,
                "peak_per_mm": float(f"{target.peak(name):.4g}"),
                "raw_db": round(scores[name], 2),
                "tv_db": round(found.score, 2),
                "tv_weight": float(f"{found.weight:.3g}"),
            }
            if pictures is not None:
                path = pictures / f"{experiment.name}_{place}_{name}.png"
                save(path, [raw, found.image, np.where(target.inside, reference, 0)], reference[target.inside])


def save(path: Path, images: list[Image], scale: Image) -> None:
    """Pictures side by side, with the grey levels that `scale` needs."""
    low, high = np.percentile(scale, (0.5, 99.5))
    grey = np.clip((np.hstack(images) - low) / (high - low), 0, 1)
    Picture.fromarray((255 * grey).astype(np.uint8)).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=[*NAMES])
    parser.add_argument("--out", type=Path, default=RESULT, help="where to write the report (JSON)")
    parser.add_argument("--pictures", type=Path, help="folder for pictures (PNG): raw, total variation, reference")
    parser.add_argument("--cache", type=Path, help="folder of the simulated frames; default: in the user's cache")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(arguments.threads)
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    print(f"{'experiment':16}{'place':7}{'reference':12}{'raw dB':>8}{'TV dB':>8}{'weight':>8}")
    rows = []
    for name in arguments.experiments:
        for row in rows_of(load(name, cache=arguments.cache), arguments.pictures):
            rows.append(row)
            print(
                f"{row['experiment']:16}{row['place']:7}{row['reference']:12}"
                f"{row['raw_db']:8.2f}{row['tv_db']:8.2f}{row['tv_weight']:8.3f}",
                flush=True,
            )
    report = {"benchmark": "lab", "machine": machine(), "rows": rows}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
