"""What the operator does: each act says what it does and what came of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
import tango

from benchmarks.soak.shift import Shift
from devices.registration import SERVERS
from tango_jit.runs import Run

NONSENSE: tuple[tuple[str, str, Any], ...] = (
    ("reconstructor", "update_every", 0),
    ("reconstructor", "center_offset_px", float("nan")),
    ("reconstructor", "geometry_xy", [1.0, 2.0, 3.0]),
    ("reconstructor", "geometry_xz", [0.0] * 9),
    ("reconstructor", "shape_yz", [-1, 5]),
    ("trainer", "learning_rate", -1.0),
    ("trainer", "buffer_size", 10**7),
    ("trainer", "region", [5.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
    ("denoiser", "mode", 17),
    ("denoiser", "compared_version", 10**6),
    ("detector", "recording", "/no/such/file.nxs"),
    ("detector", "position", -5),
    ("recorder", "folder", "not/from/the/root"),
    ("recorder", "every_s", float("inf")),
)
WRONG_ORDERS: tuple[tuple[str, str, Any], ...] = (
    ("reconstructor", "AddSlice", "Not A Name"),
    ("reconstructor", "RemoveSlice", "nobody"),
    ("trainer", "Load", "/no/such/file.safetensors"),
    ("denoiser", "Snapshot", "/no/such/folder/x.h5"),
)
SETTINGS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("trainer", "buffer_size", (160, 320, 640)),
    ("trainer", "learning_rate", (0.001, 0.002)),
    ("trainer", "sampling", (0, 1)),
    ("reconstructor", "update_every", (60, 75, 90)),
    ("reconstructor", "ring_turns", (0.0, 5.0)),
    ("denoiser", "uncertainty", (True, False)),
    ("denoiser", "enabled", (False, True)),
    ("detector", "frame_period_s", (0.02, 0.024, 0.03)),
)
MORTAL = ("reconstructor", "trainer", "denoiser", "recorder", "supervisor")
RECOVERY_S = 120.0


@dataclass
class Operator:
    """Acts on a shift, by chance that can be repeated. `disk` is a small one that fills; None: there is none here."""

    shift: Shift
    random: Random
    disk: Path | None
    recording_frames: int

    def calm(self) -> tuple[Callable[[], None], ...]:
        """What an operator does all day."""
        return (self.move, self.nonsense, self.setting, self.jump, self.weights, self.look, self.record)

    def rough(self) -> tuple[Callable[[], None], ...]:
        """What happens to one at three in the morning."""
        return (self.crash, self.hang, self.stop_and_start, self.fill_disk)

    # ---- calm

    def move(self) -> None:
        shift, name = self.shift, self.random.choice(("xy", "xz", "yz"))
        place = shift.read("reconstructor", f"geometry_{name}")
        if place is None:
            shift.say(f"move {name}: it has no place yet")
            return
        nine = np.array(place)
        across = np.cross(nine[3:6], nine[6:9])
        nine[:3] += across / np.linalg.norm(across) * self.random.uniform(-1, 1)
        shift.say(f"move {name} to {np.round(nine[:3], 2).tolist()}")
        shift.proxy("reconstructor").write_attribute(f"geometry_{name}", nine)
        shift.expect("a picture there", lambda: np.allclose(shift.read("denoiser", f"geometry_{name}"), nine))

    def nonsense(self) -> None:
        shift = self.shift
        member, attribute, value = self.random.choice(NONSENSE)
        before = shift.read(member, attribute)
        shift.say(f"nonsense: {member}.{attribute} = {value}")
        self._refused(lambda: shift.proxy(member).write_attribute(attribute, value))
        after = shift.read(member, attribute)
        if not np.array_equal(before, after):
            shift.fail(f"{member}.{attribute} was {before}, is {after} after a value that was refused")
        member, command, argument = self.random.choice(WRONG_ORDERS)
        shift.say(f"nonsense: {member}.{command}({argument!r})")
        self._refused(lambda: shift.proxy(member).command_inout(command, argument))

    def _refused(self, order: Callable[[], Any]) -> None:
        try:
            order()
        except tango.DevFailed as error:
            self.shift.say(f"    refused: {error.args[0].desc.splitlines()[0]}")
        else:
            self.shift.fail("nonsense was taken")

    def setting(self) -> None:
        shift = self.shift
        member, attribute, values = self.random.choice(SETTINGS)
        value = self.random.choice(values)
        shift.say(f"set {member}.{attribute} = {value}")
        shift.proxy(member).write_attribute(attribute, value)
        shift.expect("read back", lambda: shift.read(member, attribute) == value, 20)

    def jump(self) -> None:
        position = self.random.randrange(self.recording_frames)
        self.shift.say(f"the experiment jumps to frame {position}")
        self.shift.proxy("detector").write_attribute("position", position)
        self.shift.expect("a new picture", self.shift.new_picture())

    def weights(self) -> None:
        shift, what = self.shift, self.random.choice(("Freeze", "Rollback", "ResetNetwork", "thaw"))
        shift.say(f"weights: {what}")
        try:
            if what == "thaw":
                shift.proxy("denoiser").write_attribute("frozen", False)
            elif what == "ResetNetwork":
                shift.proxy("trainer").command_inout(what)
            else:
                shift.proxy("denoiser").command_inout(what)
        except tango.DevFailed as error:  # no earlier weights to go back to
            shift.say(f"    refused: {error.args[0].desc.splitlines()[0]}")
        shift.expect("a new picture", shift.new_picture())
        shift.proxy("denoiser").write_attribute("frozen", False)

    def look(self) -> None:
        """A picture of the operator window, by a process of its own."""
        out = self.shift.deployment.folder / "window.png"
        host = self.shift.deployment.recorded()["tango_host"]
        command = [sys.executable, "-m", "devices.cli", "snapshot", str(out), "--patience", "60"]
        done = subprocess.run(command, env=_environment(host), capture_output=True, text=True, timeout=180)
        self.shift.say(f"look at the window: {'all there' if done.returncode == 0 else done.stdout.strip()}")
        if not out.exists():
            self.shift.fail(f"no picture of the window: {done.stderr[-500:]}")

    def record(self) -> None:
        """A run of some seconds; every mark must be in its journal, every picture in its place."""
        folder = self.shift.deployment.folder / "runs"
        folder.mkdir(exist_ok=True)
        self.shift.proxy("recorder").write_attribute("folder", str(folder))
        self._run_of(10.0)

    def _run_of(self, seconds: float) -> None:
        shift = self.shift
        recorder = shift.proxy("recorder")
        recorder.command_inout("Record")
        marks = [f"mark {self.random.randrange(10**6)}" for _ in range(3)]
        for mark in marks:
            time.sleep(seconds / len(marks))
            recorder.command_inout("Mark", mark)
        recorder.command_inout("Finish")
        shift.expect("the end of the run", lambda: shift.read("recorder", "recording") is False)
        file, kept, lost = (shift.read("recorder", n) for n in ("file", "pictures_recorded", "pictures_lost"))
        shift.say(f"recorded {kept} pictures, lost {lost}, in {Path(file).name}")
        if lost:
            shift.fail(f"{lost} pictures of a run were lost with room on the disk")
        files = sorted(Path(file).parent.glob(f"{Path(file).stem.rpartition('_part')[0] or Path(file).stem}*"))
        self._check_run(Path(file), marks, files)
        for path in files:
            path.unlink()

    def _check_run(self, file: Path, marks: list[str], files: list[Path]) -> None:
        with Run(file) as run:
            told = str(run.journal())
        missing = [mark for mark in marks if mark not in told]
        if missing and len(files) == 1:
            self.shift.fail(f"{file.name}: {', '.join(missing)} are not in its journal")

    # ---- rough

    def crash(self) -> None:
        member = self.random.choice(MORTAL)
        self.shift.say(f"the {member} crashes")
        process = self.shift.process(member)
        process.kill()
        psutil.wait_procs([process], timeout=10)
        time.sleep(self.random.uniform(0, 5))
        self.shift.deployment.start(next(server for server in SERVERS if server.member == member))
        self.shift.expect(f"the {member} answers", lambda: self.shift.proxy(member).ping() >= 0, RECOVERY_S)
        self.shift.expect("a new picture", self.shift.new_picture(), RECOVERY_S)

    def hang(self) -> None:
        member = self.random.choice(MORTAL)
        seconds = self.random.uniform(3, 10)
        self.shift.say(f"the {member} hangs for {seconds:.0f} s")
        process = self.shift.process(member)
        process.suspend()
        try:
            time.sleep(seconds)
        finally:
            process.resume()
        self.shift.expect("a new picture", self.shift.new_picture(), RECOVERY_S)

    def stop_and_start(self) -> None:
        self.shift.say("everything is stopped, and started again")
        for command in ("Stop", "Start"):
            try:
                self.shift.proxy("supervisor").command_inout(command)
            except tango.DevFailed as error:
                self.shift.say(f"    {command}: {error.args[0].desc.splitlines()[0]}")
            time.sleep(3)
        if self.shift.until(lambda: self.shift.read("detector", "running"), 20) is None:
            self.shift.proxy("detector").command_inout("Start")
        self.shift.expect("a new picture", self.shift.new_picture(), RECOVERY_S)

    def fill_disk(self) -> None:
        """Record until the disk is full: pictures go on, the recorder says so; with room again it goes on, too."""
        if self.disk is None:
            self.shift.say("no small disk here: it is not filled")
            return
        shift, recorder = self.shift, self.shift.proxy("recorder")
        shift.say(f"record onto a disk of {shutil.disk_usage(self.disk).total / 1e6:.0f} MB")
        recorder.write_attribute("folder", str(self.disk))
        recorder.write_attribute("reserve_mb", 5.0)
        recorder.command_inout("Record")
        alarm = tango.DevState.ALARM
        shift.expect("it says that the disk is full", lambda: recorder.command_inout("State") == alarm, 180)
        shift.say(f"    {recorder.command_inout('Status').splitlines()[0]}")
        shift.expect("pictures go on", shift.new_picture())
        recorder.command_inout("Finish")
        shift.expect("the end of the run", lambda: shift.read("recorder", "recording") is False, 90)
        for path in self.disk.iterdir():
            path.unlink()
        shift.expect("no alarm", lambda: recorder.command_inout("State") != alarm, 60)


def _environment(host: str) -> dict[str, str]:

    return {**os.environ, "TANGO_HOST": host, "QT_QPA_PLATFORM": "offscreen"}
