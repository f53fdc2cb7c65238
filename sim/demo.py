"""`tango-jit demo`: the four servers, a replayed experiment, a live table, a report."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import tango
import typer
from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from devices.deployment import Deployment
from sim.balls import simulate
from sim.report import Recorder, write_report
from sim.script import Script, load
from sim.script_run import ScriptRun
from tango_jit import __version__
from tango_jit.recordings import open_recording
from tango_jit.services.denoiser_signals import BEST_ACCURACY

console = Console()
DEMO_TURNS = 8
DEMO_SEED = 1

ROWS = (
    ("frames sent", "detector", "frames_sent", "{:d}"),
    ("late by", "detector", "lateness_ms", "{:.0f} ms"),
    ("frames received", "reconstructor", "frames_received", "{:d}"),
    ("frames lost", "reconstructor", "frames_lost", "{:d}"),
    ("window fill", "reconstructor", "fill", "{:.0%}"),
    ("slices", "reconstructor", "rate_hz", "{:.2f} /s"),
    ("pairs generated", "trainer", "samples_per_s", "{:.0f} /s"),
    ("training steps", "trainer", "steps_per_s", "{:.1f} /s"),
    ("patch accuracy", "trainer", "patch_accuracy", "{:.3f}"),
    ("slice accuracy", "denoiser", "accuracy", "{:.3f}"),
    ("weights version", "denoiser", "weights_version", "{:d}"),
    ("latency", "denoiser", "latency_ms", "{:.0f} ms"),
)


def demo(
    recording: Annotated[
        Path | None, typer.Option(help="NXtomo or Data Exchange file; without it a small simulated scan.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds of replay; without it until the end or Ctrl-C.")
    ] = None,
    frame_period: Annotated[
        float, typer.Option(min=0.0, help="Milliseconds from frame to frame; 0: as fast as possible.")
    ] = 24.0,
    loop: Annotated[
        bool, typer.Option(help="Begin again after the last frame (always so for the simulated scan).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write figures and pictures of the run: JSON, PNGs beside it.")
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(help="What happens during the replay: a TOML file, or the name of one that comes along (paper)."),
    ] = None,
    gui: Annotated[
        bool,
        typer.Option("--gui/--no-gui", help="Open the operator window where there is a display and one is installed."),
    ] = True,
) -> None:
    """Replay an experiment and watch a denoiser learn on it."""
    if recording is not None and not recording.is_file():
        raise ValueError(f"--recording: expected a file, got {recording}")
    if report is not None:
        check_report(report)
    happenings = load(script) if script is not None else None
    path = recording.resolve() if recording else simulated_scan()
    open_recording(path).close()  # refuse what cannot be replayed before anything is started
    folder = Path(tempfile.mkdtemp(prefix="tango-jit-demo-"))
    deployment = Deployment(folder)
    with ended_by_signals() as ended:
        try:
            with console.status("starting the Tango database and four servers ..."):
                host = deployment.up()
            console.print(f"TANGO_HOST=[bold]{host}[/]   devices: {', '.join(deployment.devices.values())}")
            console.print(f"replaying {path} at {frame_period:g} ms a frame; Ctrl-C ends it")
            if gui:
                console.print("[dim]No operator window is installed: read the devices with any Tango client.[/]")
            settings = {"recording": str(path), "frame_period_s": frame_period / 1e3, "loop": loop or recording is None}
            recorder = replay(deployment, host, settings, duration, ended, happenings)
            console.print()
            if report:
                write_report(report, recorder, settings | {"duration_s": duration, "script": script})
                console.print(f"report: {report}")
        finally:
            with console.status("ending the servers ..."):
                deployment.down()
            shutil.rmtree(folder, ignore_errors=True)
    console.print("everything is stopped")


def check_report(path: Path) -> None:
    """Raises ValueError for a report that could not be written when the run is over."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise ValueError(f"--report: expected a file in a folder that exists, got {path}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"--report: expected a file that may be written, got {path}")


def replay(
    deployment: Deployment,
    host: str,
    settings: dict[str, Any],
    duration: float | None,
    ended: threading.Event,
    script: Script | None = None,
) -> Recorder:
    """Start the detector and show the table until the time is over, the recording ends, or `ended` is set. What
    `script` says is done meanwhile, and stands in the recorder's `events`."""
    proxies = {member: tango.DeviceProxy(f"tango://{host}/{name}") for member, name in deployment.devices.items()}
    detector = proxies["detector"]
    for name, value in settings.items():
        detector.write_attribute(name, value)
    recorder = Recorder(proxies)
    run = ScriptRun(script, proxies) if script is not None else None
    try:
        if run is not None:
            run.step()  # counts from here
        detector.Start()
        started = time.monotonic()
        with Live(console=console, refresh_per_second=4) as live:
            while not ended.wait(0.5):
                for line in run.step() if run is not None else ():
                    live.console.print(line)
                live.update(table(recorder.sample(), time.monotonic() - started))
                over = duration is not None and time.monotonic() - started >= duration
                if over or recorder.finished():
                    break
        detector.Stop()
        recorder.settle()
        recorder.events = run.events if run is not None else []
    finally:
        recorder.close()
    return recorder


def table(values: dict[str, dict[str, Any]], elapsed_s: float) -> Table:
    """The live view: one line per figure, one column of states."""
    view = Table("", "", title=f"{elapsed_s:.0f} s", min_width=60)
    for label, member, name, form in ROWS:
        value = values.get(member, {}).get(name)
        shown = "-" if value is None else form.format(value)
        if name == "accuracy" and values.get("trend"):
            shown += f"  {values['trend']['accuracy']}"
        if name.endswith("accuracy") and value is not None and value < BEST_ACCURACY:
            shown += "  (below 0.5: streaks or motion)"
        view.add_row(label, shown)
    view.add_section()
    for member, attributes in values.items():
        if "State" in attributes:
            colour = {"ALARM": "yellow", "FAULT": "red", "RUNNING": "green"}.get(str(attributes["State"]), "white")
            view.add_row(member, f"[{colour}]{attributes['State']}[/] {attributes['Status']}")
    return view


def simulated_scan() -> Path:
    """The small scan of the demo, made once and kept in the user's cache."""
    cache = platformdirs.user_cache_path("tango-jit", ensure_exists=True)
    path = cache / f"balls-{__version__}-{DEMO_TURNS}-{DEMO_SEED}.nxs"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder, Progress(console=console) as progress:
            task = progress.add_task("simulating a scan of moving balls", total=None)

            def show(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            part = Path(folder) / path.name
            simulate(part, turns=DEMO_TURNS, seed=DEMO_SEED, progress=show)
            part.replace(path)  # in one step: two demos at once do no harm
    return path


@contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closed terminal set; nothing interrupts the ending itself."""
    ended = threading.Event()

    def handle(number: int, frame: Any) -> None:
        ended.set()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
