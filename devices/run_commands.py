"""The command `tango-jit remake`: a picture of a run, made again from its projections and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from tango_jit.recordings import Recording, open_recording
from tango_jit.runs import Picture, Run

console = Console()


def remake(
    run: Annotated[Path, typer.Argument(help="File of a run, as the recorder writes it.")],
    name: Annotated[str, typer.Option("--slice", help="Which slice; without it: the one that is shown first.")] = "",
    frame: Annotated[
        int | None, typer.Option(help="Number of the newest frame in the picture; without it: the last picture.")
    ] = None,
    projections: Annotated[
        Path | None, typer.Option(help="Its projections; without it: the file that the recorder wrote beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write it: an .npz file with denoised and raw.")] = None,
) -> None:
    """Make a denoised picture again, and say how far it is from the one that was recorded."""
    from tango_jit.services.remake import remake as made_again  # PyTorch is slow to load

    try:
        with Run(run) as file:
            name = name or file.slices[0]
            picture = file.picture(name, -1 if frame is None else file.index_of(name, frame))
            with _projections([projections] if projections else _beside(run), picture) as recording:
                made = made_again(file, picture, recording)
    except (ValueError, KeyError, IndexError, OSError) as error:
        console.print(
            f"[red]{escape(str(error.args[0] if isinstance(error, KeyError) else error))}[/]", highlight=False
        )
        raise typer.Exit(1) from error
    _tell(picture, {"denoised": made.denoised, "raw": made.raw})
    if made.missing:
        console.print(f"[yellow]{made.missing} frames of it are not among the projections[/]", highlight=False)
    if out is not None:
        out = out.with_suffix(".npz")
        np.savez(out, denoised=made.denoised, raw=made.raw)
        console.print(f"wrote {out}", highlight=False)


def _beside(run: Path) -> list[Path]:
    """The files of the projections of a run, also of its later parts. Raises ValueError if there are none."""
    stems = run.stem, run.stem.rpartition("_")[0]
    found = [path for stem in stems if stem for path in sorted(run.parent.glob(f"{stem}_projections*{run.suffix}"))]
    if not found:
        raise ValueError(
            f"{run}: expected {run.stem}_projections{run.suffix} beside it, got none; --projections names it"
        )
    return found


def _projections(paths: list[Path], picture: Picture) -> Recording:
    """That of the recordings which has the frames of the picture, or the first one, if none has."""
    for path in paths:
        try:
            recording = open_recording(path)
        except ValueError:  # damaged, or still written to
            if path == paths[-1]:
                raise
            continue
        has = picture.first_frame in recording.frame_numbers and picture.last_frame in recording.frame_numbers
        if len(paths) == 1 or (has and recording.header.series == picture.series):
            return recording
        recording.close()
    return open_recording(paths[0])


def _tell(picture: Picture, made: dict[str, np.ndarray]) -> None:
    frames = f"frames {picture.first_frame} to {picture.last_frame}"
    console.print(f"{picture.name}, {frames}, weights {picture.weights_version}, mode {picture.mode}", highlight=False)
    for kind, image in made.items():
        recorded = picture.denoised if kind == "denoised" else picture.raw
        if recorded is None:
            console.print(f"{kind}: was not recorded", highlight=False)
            continue
        apart = float(np.abs(image - recorded).max() / max(float(np.abs(recorded).max()), 1e-30))
        console.print(f"{kind}: differs by {apart:.1e} of its largest value at most", highlight=False)
