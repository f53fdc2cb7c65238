"""The commands `tango-jit info` and `tango-jit convert`: look at recordings, and write them in another format."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tango_jit.recordings import FlexRayOptions, Recording, create_recording, format_of, open_recording
from tango_jit.recordings.facts import describe
from tango_jit.recordings.flexray_options import COMPANION
from tango_jit.recordings.plan import check_space

console = Console()
NAMES = {"nxtomo": "NXtomo", "dxchange": "Data Exchange", "flexray": "FleX-ray folder"}


class Format(StrEnum):
    """Names of the formats on the command line."""

    NXTOMO = "nxtomo"
    DXCHANGE = "dxchange"
    FLEXRAY = "flexray"


class Rows(StrEnum):
    """Where the rows of a region of interest are counted from."""

    UP = "up"
    DOWN = "down"


# What a FleX-ray folder cannot say; the same for both commands.
FLEXRAY = "FleX-ray folders"
ViewsPerTurn = Annotated[float | None, typer.Option(help="Projections a turn.", rich_help_panel=FLEXRAY)]
Direction = Annotated[
    int | None, typer.Option(help="1: counter-clockwise, -1: the other way round.", rich_help_panel=FLEXRAY)
]
Phase = Annotated[float | None, typer.Option("--phase-deg", help="Angle of frame 0, degrees.", rich_help_panel=FLEXRAY)]
Period = Annotated[
    float | None,
    typer.Option(
        "--recorded-period", help="Milliseconds from frame to frame in the recording.", rich_help_panel=FLEXRAY
    ),
]
Profile = Annotated[
    str | None, typer.Option(help="Calibration; none: motor positions as they are.", rich_help_panel=FLEXRAY)
]
Transpose = Annotated[bool | None, typer.Option(help="Images are stored on their side.", rich_help_panel=FLEXRAY)]
Flip = Annotated[bool | None, typer.Option(help="Row 0 of the images is at the top.", rich_help_panel=FLEXRAY)]
Reverse = Annotated[bool | None, typer.Option(help="The last file is the first frame.", rich_help_panel=FLEXRAY)]
RoiRows = Annotated[Rows | None, typer.Option(help="How the rows of the ROI are counted.", rich_help_panel=FLEXRAY)]
Restart = Annotated[bool | None, typer.Option(help="Numbers begin again in each scan_N.", rich_help_panel=FLEXRAY)]
Linear = Annotated[bool | None, typer.Option(help="Frames are -log of the transmission already.")]
Source = Annotated[Path, typer.Argument(help="NXtomo or Data Exchange file, or FleX-ray folder.")]


def info(
    file: Source,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    linear: Linear = None,
    views_per_turn: ViewsPerTurn = None,
    direction: Direction = None,
    phase_deg: Phase = None,
    recorded_period: Period = None,
    profile: Profile = None,
    transpose: Transpose = None,
    flip_rows: Flip = None,
    reverse: Reverse = None,
    roi_rows: RoiRows = None,
    restart: Restart = None,
) -> None:
    """Show what a recording holds."""
    options = _options(
        views_per_turn, direction, phase_deg, recorded_period, profile, transpose, flip_rows, reverse, roi_rows, restart
    )
    with open_recording(file, linear=linear, flexray=options) as recording:
        facts = describe(recording)
        if as_json:
            print(json.dumps(facts, indent=2, allow_nan=False))
        else:
            _show(file, facts)


def convert(
    source: Source,
    target: Annotated[Path, typer.Argument(help="New file, or folder for FleX-ray.")],
    format: Annotated[Format | None, typer.Option(help="Of the target; else by its ending.")] = None,
    first: Annotated[int, typer.Option(min=0, help="Position of the first frame to take.")] = 0,
    last: Annotated[int | None, typer.Option(min=0, help="Position of the last; else to the end.")] = None,
    force: Annotated[bool, typer.Option(help="Replace a target that is there.")] = False,
    linear: Linear = None,
    views_per_turn: ViewsPerTurn = None,
    direction: Direction = None,
    phase_deg: Phase = None,
    recorded_period: Period = None,
    profile: Profile = None,
    transpose: Transpose = None,
    flip_rows: Flip = None,
    reverse: Reverse = None,
    roi_rows: RoiRows = None,
    restart: Restart = None,
) -> None:
    """Write a recording in another format; the target appears when it is complete."""
    options = _options(
        views_per_turn, direction, phase_deg, recorded_period, profile, transpose, flip_rows, reverse, roi_rows, restart
    )
    kind = format_of(target, None if format is None else format.value)
    _check_target(source, target, kind, force)
    with open_recording(source, linear=linear, flexray=options) as recording:
        end = len(recording) - 1 if last is None else last
        if not first <= end < len(recording):
            raise ValueError(
                f"--first, --last: expected positions from 0 to {len(recording) - 1}, got {first} and {end}"
            )
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            _copy(recording, part, kind, first, end)
            _put(part, target)
        finally:
            _remove(part)
    console.print(f"{target}: {end - first + 1} frames, {NAMES[kind]}", highlight=False)


def _show(file: Path, facts: dict[str, Any]) -> None:
    def figure(name: str, unit: str = "") -> str:
        value = facts[name]
        return "unknown" if value is None else f"{value:.6g}{unit}"

    frames, missing = f"{facts['frames']}", facts["missing_frame_numbers"]
    if facts["planned_frames"] not in (None, facts["frames"]):
        frames += f" of {facts['planned_frames']} planned"
        frames += ": interrupted, or some are gone"
    numbers = f"{facts['first_frame_number']} to {facts['last_frame_number']}, {missing or 'none'} missing"
    table = Table(title=escape(str(file)), show_header=False, title_justify="left")
    for name, value in (
        ("format", NAMES[facts["format"]]),
        ("series", facts["series"]),
        ("name", facts["name"] or "none"),
        ("frames", frames),
        ("frame numbers", numbers),
        ("shape", f"{facts['rows']} rows x {facts['cols']} columns, {facts['dtype']}"),
        ("data", "-log of the transmission" if facts["linear"] else "raw counts"),
        ("beam", facts["beam"]),
        ("source to axis", figure("source_axis_mm", " mm") if facts["beam"] == "cone" else "none (parallel)"),
        ("source to detector", figure("source_detector_mm", " mm") if facts["beam"] == "cone" else "none (parallel)"),
        ("pixel", " x ".join(f"{x:.6g}" for x in facts["pixel_mm"]) + " mm"),
        ("voxel", figure("voxel_mm", " mm")),
        ("axis column", figure("axis_column")),
        ("field of view", figure("field_of_view_mm", " mm")),
        ("views a turn", figure("views_per_turn")),
        ("turns", figure("turns")),
        ("exposure", figure("exposure_s", " s")),
        ("frame period", figure("frame_period_s", " s")),
        ("darks", _means(facts, "dark")),
        ("flats", _means(facts, "flat")),
        ("scenario", "none" if facts["scenario"] is None else f"{len(facts['scenario'].splitlines())} lines"),
        *(("remark", remark) for remark in facts["remarks"]),
    ):
        table.add_row(name, escape(value))  # text from files is no markup
    console.print(table, highlight=False)


def _means(facts: dict[str, Any], kind: str) -> str:
    mean = facts[f"{kind}_mean"]
    return "none" if mean is None else f"{facts[f'{kind}s']}, mean {mean:.6g}"


def _options(
    views_per_turn: float | None,
    direction: int | None,
    phase_deg: float | None,
    period_ms: float | None,
    profile: str | None,
    transpose: bool | None,
    flip_rows: bool | None,
    reverse: bool | None,
    roi_rows: Rows | None,
    restart: bool | None,
) -> FlexRayOptions:
    return FlexRayOptions(
        views_per_turn,
        direction,
        None if phase_deg is None else math.radians(phase_deg),
        None if period_ms is None else period_ms * 1e-3,
        profile,
        None,
        transpose,
        flip_rows,
        reverse,
        None if roi_rows is None else roi_rows.value,
        restart,
    )


def _check_target(source: Path, target: Path, kind: str, force: bool) -> None:
    """Raises before anything is read, rather than after hours of copying."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: expected a folder {target.parent} for it, but there is none")
    if not (target.exists() or target.is_symlink()):
        return
    if source.exists() and target.exists() and target.samefile(source):
        raise ValueError(f"{target}: expected another file than the source")
    if not force:
        raise FileExistsError(f"{target}: expected a new file, but there is one of that name (--force replaces it)")
    if target.is_symlink() or target.is_dir() != (kind == "flexray"):
        raise ValueError(f"{target}: expected a regular {'folder' if kind == 'flexray' else 'file'} to replace")
    if target.is_dir() and not (target / COMPANION).is_file():
        raise ValueError(f"{target}: expected a folder that tango-jit wrote ({COMPANION}); others are not replaced")


def _copy(recording: Recording, part: Path, kind: str, first: int, last: int) -> None:
    scan, count = recording.header.geometry, last - first + 1
    check_space(part, count * scan.rows * scan.cols * recording.dtype.itemsize)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        create_recording(
            part, recording.header, recording.dark, recording.flat, format=kind, scenario=recording.scenario
        ) as writer,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        for index in progress.track(range(first, last + 1), description="frames"):
            writer.append(recording.frame(index))


def _put(part: Path, target: Path) -> None:
    if not target.is_dir():
        os.replace(part, target)
        return
    old = part.with_suffix(".old")
    os.rename(target, old)
    os.rename(part, target)
    shutil.rmtree(old)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
