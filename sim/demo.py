"""`tango-jit demo`: the four servers, a replayed experiment, a live table, a report."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import tango
import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from devices.deployment import Deployment
from devices.gui.command import opened
from sim.judgement import Judged, judge
from sim.prepared import prepared
from sim.report import Recorder, write_report
from sim.scenario import Scenario
from sim.scenario import load as load_scenario
from sim.script import OtherRecording, Script, load
from sim.script_run import ScriptRun, recordings_of
from tango_jit.learn.tasks import TASKS
from tango_jit.recordings import open_recording
from tango_jit.services.slices import DEFAULTS

console = Console()

ROWS = (
    ("frames sent", "detector", "frames_sent", "{:d}"),
    ("late by (99 % of frames)", "detector", "lateness_p99_ms", "{:.0f} ms"),
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
    experiment: Annotated[
        str, typer.Option(help=f"What is simulated: {', '.join(Scenario.BUILT_IN)}, or a scenario file (TOML).")
    ] = Scenario.BUILT_IN[0],
    recording: Annotated[
        Path | None, typer.Option(help="Replay this instead: an NXtomo or Data Exchange file, or a FleX-ray folder.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds of replay; without it until the end or Ctrl-C.")
    ] = None,
    frame_period: Annotated[
        float, typer.Option(min=0.0, help="Milliseconds from frame to frame; 0: as fast as possible.")
    ] = 24.0,
    loop: Annotated[
        bool, typer.Option(help="Begin again after the last frame (always so for a simulated experiment).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write figures and pictures of the run: JSON, PNGs beside it.")
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(help="What happens during the replay: a TOML file, or the name of one that comes along (paper)."),
    ] = None,
    slice_pixels: Annotated[
        int, typer.Option(min=8, max=4096, help="Rows and columns of the slices at most; the detector may have more.")
    ] = 384,
    gui: Annotated[
        bool,
        typer.Option("--gui/--no-gui", help="Open the operator window where there is a display and one is installed."),
    ] = True,
) -> None:
    """Replay an experiment and watch a denoiser learn on it."""
    if report is not None:
        check_report(report)
    happenings = load(script) if script is not None else None
    others = recordings_of(happenings, console) if happenings is not None else {}
    path = to_replay(recording, experiment)
    folder = Path(tempfile.mkdtemp(prefix="tango-jit-demo-"))
    deployment = Deployment(folder)
    with ended_by_signals() as ended:
        try:
            with console.status("starting the Tango database and the servers ..."):
                host = deployment.up()
            console.print(f"TANGO_HOST=[bold]{host}[/]   devices: {', '.join(deployment.devices.values())}")
            console.print(f"replaying {path} at {frame_period:g} ms a frame; Ctrl-C ends it")
            settings = {"recording": str(path), "frame_period_s": frame_period / 1e3, "loop": loop or recording is None}
            with opened(host, folder / "window.log") if gui else nullcontext("") as why_not:
                if why_not:
                    console.print(f"[dim]{escape(why_not)}: read the devices with any Tango client[/]", highlight=False)
                recorder = replay(deployment, host, settings, duration, ended, happenings, others, slice_pixels)
            console.print()
        finally:
            with console.status("ending the servers ..."):
                deployment.down()
            shutil.rmtree(folder, ignore_errors=True)
    console.print("everything is stopped")
    if report:
        chosen = settings | {"duration_s": duration, "script": script, "slice_pixels": slice_pixels}
        write_report(report, recorder, chosen, with_truth(recorder))
        console.print(f"report: {report}")


def to_replay(recording: Path | None, experiment: str) -> Path:
    """The recording, else the simulated one. Raises ValueError for what cannot be replayed, before anything starts."""
    if recording is not None and not recording.exists():
        raise ValueError(f"--recording: expected a file or folder, got {recording}")
    path = recording.resolve() if recording else prepared(load_scenario(experiment), console)
    open_recording(path).close()
    return path


def with_truth(recorder: Recorder) -> Judged:
    """What the ground truth of simulated recordings says of the run; Ctrl-C leaves the rest of it out."""
    with ended_by_signals() as ended, Progress(console=console, transient=True) as progress:
        task = progress.add_task("comparing with the ground truth", total=len(recorder.checkpoints))
        return judge(
            recorder.checkpoints,
            progress=lambda done, total: progress.update(task, completed=done),
            stopped=ended.is_set,
        )


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
    others: Mapping[OtherRecording, Path] | None = None,
    slice_pixels: int = 4096,
) -> Recorder:
    """Start the detector and show the table until the time is over, the recording ends, or `ended` is set. What
    `script` says is done meanwhile, and stands in the recorder's `events`."""
    proxies = {member: tango.DeviceProxy(f"tango://{host}/{name}") for member, name in deployment.devices.items()}
    detector = proxies["detector"]
    for name, value in settings.items():
        detector.write_attribute(name, value)
    recorder = Recorder(proxies)
    run = ScriptRun(script, proxies, recordings=others) if script is not None else None
    try:
        if run is not None:
            run.step()  # counts from here
        detector.Start()
        started, fitted = time.monotonic(), False
        with Live(console=console, refresh_per_second=4) as live:
            while not ended.wait(0.5):
                for line in run.step() if run is not None else ():
                    live.console.print(line)
                if not fitted:
                    fitted = fit_slices(proxies["reconstructor"], slice_pixels)
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


def fit_slices(reconstructor: Any, pixels: int) -> bool:
    """Give default slices that are larger `pixels` a side; False: there is no scan yet."""
    try:
        for name in DEFAULTS:
            if max(reconstructor.read_attribute(f"shape_{name}").value) > pixels:
                reconstructor.write_attribute(f"shape_{name}", [pixels, pixels])
    except (tango.DevFailed, TypeError):  # no such slice, or no shape before the scan is known
        return False
    return True


def table(values: dict[str, dict[str, Any]], elapsed_s: float) -> Table:
    """The live view: one line per figure, one column of states."""
    view = Table("", "", title=f"{elapsed_s:.0f} s", min_width=60)
    for label, member, name, form in ROWS:
        value = values.get(member, {}).get(name)
        shown = "-" if value is None or value != value else form.format(value)  # NaN: none yet
        if name == "accuracy" and values.get("trend"):
            shown += f"  {values['trend']['accuracy']}"
        if name.endswith("accuracy") and value is not None and value < TASKS["DENOISE"].least:
            shown += "  (below 0.5: streaks or motion)"
        view.add_row(label, shown)
    view.add_section()
    for member, attributes in values.items():
        if "State" in attributes:
            colour = {"ALARM": "yellow", "FAULT": "red", "RUNNING": "green"}.get(str(attributes["State"]), "white")
            view.add_row(member, f"[{colour}]{attributes['State']}[/] {attributes['Status']}")
    return view


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
