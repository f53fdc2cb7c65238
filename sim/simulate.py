"""`tango-jit simulate`: a simulated experiment as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sim.record import MOST_FRAMES, part_of, record
from sim.scenario import Scenario, load

console = Console()


def simulate(
    experiment: Annotated[str, typer.Argument(help=f"{', '.join(Scenario.BUILT_IN)}, or a scenario file (TOML).")],
    out: Annotated[Path, typer.Option(help="The recording: a file, or a folder for FleX-ray.")],
    minutes: Annotated[float, typer.Option(min=0, max=1e5, help="How much of the experiment is recorded.")] = 5.0,
    turns: Annotated[
        int | None, typer.Option(min=1, max=MOST_FRAMES, help="Turns of the scanner to record, instead of minutes.")
    ] = None,
    start_minutes: Annotated[
        float | None, typer.Option(min=0, max=1e5, help="How long the experiment has been going on at the first frame.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another sample of the same kind, and other noise.")] = None,
    dose: Annotated[
        float | None, typer.Option(min=1, help="Photons that reach a pixel in the open beam during a frame.")
    ] = None,
    binning: Annotated[int, typer.Option(min=1, help="Larger pixels, and fewer of them.")] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Approximate noise, about twice as fast.")] = False,
    format: Annotated[
        str | None, typer.Option(help="nxtomo, dxchange or flexray; without it the ending of --out tells.")
    ] = None,
) -> None:
    """Record a simulated experiment. Interrupted, the same command goes on where it was."""
    scenario = changed(load(experiment), seed, dose, start_minutes, binning, fast)
    scanner = scenario.scanner
    frames = turns * scanner.views_a_turn if turns else round(minutes * 60 / scanner.frame_period_s)
    if frames < 1:
        raise ValueError(f"--minutes: expected at least one frame of {scanner.frame_period_s:g} s, got {minutes:g} min")
    console.print(
        f"{scenario.title}: {frames} frames of {scanner.rows} x {scanner.cols} pixels "
        f"({frames * scanner.rows * scanner.cols * 2 / 1e9:.2f} GB), {scenario.beam.photons:g} photons, "
        f"seed {scenario.seed}, from minute {scenario.start_s / 60:g} on"
    )
    columns = SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn()
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=frames)
            record(
                scenario,
                out,
                frames=frames,
                format=format,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt:
        console.print(f"interrupted: the same command goes on with {part_of(str(out))}")
        raise SystemExit(130) from None
    console.print(f"recorded: {out}")


def changed(
    scenario: Scenario,
    seed: int | None,
    dose: float | None,
    start_minutes: float | None,
    binning: int,
    fast: bool,
) -> Scenario:
    """A scenario with what the command line says. Larger pixels collect the photons of those that they replace, and
    are read out with a smaller gain, so that they do not saturate."""
    changes: dict[str, object] = {}
    if binning > 1:
        camera = scenario.camera
        changes["scanner"] = scenario.scanner.binned(binning)
        changes["photons"] = scenario.beam.photons * binning**2
        changes["camera"] = replace(camera, counts_per_photon=camera.counts_per_photon / binning**2)
    if seed is not None:
        changes["seed"] = seed
    if dose is not None:
        changes["photons"] = dose
    if start_minutes is not None:
        changes["start_s"] = start_minutes * 60
    if fast:
        changes["fast"] = True
    return scenario.with_(**changes) if changes else scenario
