"""The recordings that the demo replays: made once, and kept in the user's cache folder."""

from __future__ import annotations

import glob
import hashlib
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sim.record import record
from sim.scenario import Scenario
from tango_jit import __version__

TURNS = 6
UNUSED_S = 7 * 24 * 3600.0  # nobody replays an older version any more


def looped(scenario: Scenario) -> Scenario:
    """A short version that can be replayed in a loop without a jump, with approximate noise to be ready soon."""
    if scenario.loop_s is not None:
        return scenario
    turn_s = scenario.scanner.views_a_turn * scenario.scanner.frame_period_s
    return scenario.with_(loop_s=TURNS * turn_s, fast=True)


def frames_of(scenario: Scenario) -> int:
    """How many frames a loop has."""
    assert scenario.loop_s is not None
    return round(scenario.loop_s / scenario.scanner.frame_period_s)


def prepared(experiment: Scenario, console: Console, *, folder: Path | None = None) -> Path:
    """The looped recording of an experiment; made now if there is none yet.

    `folder`: where it is kept; None: the user's cache. Versions of it that nobody has used for a week
    are removed. Two calls at once do no harm.
    Raises ScenarioError, OSError.
    """
    scenario = looped(experiment)
    cache = folder or platformdirs.user_cache_path("tango-jit", ensure_exists=True)
    digest = hashlib.sha256(f"{__version__}\n{scenario.to_toml()}".encode()).hexdigest()[:12]
    stem = f"{scenario.name}-{round(scenario.start_s)}s"
    path = cache / f"{stem}-{digest}.nxs"
    if not path.exists():
        for old in cache.glob(f"{glob.escape(stem)}-{'?' * 12}.nxs"):
            if time.time() - old.stat().st_mtime > UNUSED_S:
                old.unlink(missing_ok=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(f"simulating {scenario.title}, once", total=frames_of(scenario))
            with TemporaryDirectory(dir=cache, prefix="unfinished-") as private:  # two may be making it at once
                made = Path(private) / path.name
                record(
                    scenario,
                    made,
                    frames=frames_of(scenario),
                    progress=lambda done, total: progress.update(task, completed=done),
                )
                made.replace(path)
    os.utime(path)  # it is used
    return path
