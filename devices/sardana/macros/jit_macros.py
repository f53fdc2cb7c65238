"""Macros of a Sardana MacroServer: an experiment started, watched, steered and recorded from a Door."""

# pyright: reportIncompatibleMethodOverride=false
# A macro has parameters of its own: they are what Macro.run is for.

from __future__ import annotations

from typing import Any

import tango
from sardana.macroserver.msexception import UnknownEnv

from devices.errors import said
from devices.sardana.jit_macro import JitMacro, Type, shown
from tango_jit.geometry import SliceGeometry


class jit_start(JitMacro):
    """Start every device, the detector last, and wait until all of them run. Pictures follow with the first turn."""

    param_def = [["timeout_s", Type.Float, 60.0, "how long to wait for all of them to run, in s"]]

    def run(self, timeout_s: float) -> None:
        supervisor = self.device("supervisor")
        self.order_all(supervisor, "Start")
        self.wait(
            lambda: self.read(supervisor, "running"),
            timeout_s,
            lambda: self.status_of(supervisor),
            "all devices to run",
        )
        self.output(self.status_of(supervisor))


class jit_stop(JitMacro):
    """Stop every device, the detector first; pictures stay readable."""

    def run(self) -> None:
        self.order_all(self.device("supervisor"), "Stop")
        self.output("stopped: pictures stay readable, jit_start goes on")


class jit_status(JitMacro):
    """Say how each device is, and how well the pictures are denoised."""

    def run(self) -> None:
        for member in ("supervisor", "detector", "reconstructor", "trainer", "denoiser", "recorder"):
            try:
                self.output(f"{member:<14}{self.status_of(self.device(member))}")
            except tango.DevFailed as error:
                self.output(f"{member:<14}does not answer: {said(error)}")
            except RuntimeError as error:
                self.output(f"{member:<14}{error}")
        self._figures()

    def _figures(self) -> None:
        try:
            denoiser = self.device("denoiser")
            for name in self.read(denoiser, "slice_names").split():
                kinds = {"frame_number": "frame", "quality": "quality", "accuracy": "accuracy"}
                told = {word: self.number(denoiser, f"{kind}_{name}") for kind, word in kinds.items()}
                self.output(f"slice {name:<8}" + ", ".join(f"{w} {shown(v)}" for w, v in told.items()))
        except (tango.DevFailed, RuntimeError):
            self.output("no pictures: the denoiser does not answer")


class jit_wait_accuracy(JitMacro):
    """Wait until the accuracy of the denoiser is this or less: 1 is no denoising, 0.5 perfect."""

    param_def = [
        ["accuracy", Type.Float, 0.7, "the accuracy to wait for, more than 0 and less than 1"],
        ["timeout_s", Type.Float, 300.0, "how long to wait, in s"],
    ]

    def run(self, accuracy: float, timeout_s: float) -> None:
        if not 0 < accuracy < 1:
            raise ValueError(f"accuracy: expected more than 0 and less than 1, got {accuracy:g}")
        denoiser = self.device("denoiser")

        def now() -> float | None:
            return self.number(denoiser, "accuracy")

        self.wait(
            lambda: (now() or 1.0) <= accuracy,
            timeout_s,
            lambda: f"accuracy is {shown(now())}; {self.status_of(denoiser)}",
            f"an accuracy of {accuracy:g} or less",
        )
        self.output(f"accuracy is {shown(now())}")


class jit_wait_quality(JitMacro):
    """Wait until the worst of the pictures has surely so many dB less noise than as reconstructed."""

    param_def = [
        ["quality_db", Type.Float, 3.0, "the quality to wait for, in dB, more than 0"],
        ["timeout_s", Type.Float, 300.0, "how long to wait, in s"],
    ]

    def run(self, quality_db: float, timeout_s: float) -> None:
        if not 0 < quality_db < 100:
            raise ValueError(f"quality_db: expected more than 0 and less than 100 dB, got {quality_db:g}")
        denoiser = self.device("denoiser")

        def now() -> float | None:
            return self.number(denoiser, "quality")

        self.wait(
            lambda: (now() or 0.0) >= quality_db,
            timeout_s,
            lambda: f"quality is {shown(now())} dB; {self.status_of(denoiser)}",
            f"a quality of {quality_db:g} dB",
        )
        self.output(f"quality is {shown(now())} dB")


class jit_move_slice(JitMacro):
    """Move a slice, and wait until it is shown there.

    One number: where it is to stand along its normal, in mm (z for a level slice). Nine: its place, in mm: corner, edge
    along columns, edge along rows.
    """

    param_def = [
        ["slice", Type.String, None, "name of the slice"],
        ["numbers", [["mm", Type.Float, None, "mm"], {"min": 1}], None, "one number or nine, in mm"],
    ]

    def run(self, name: str, numbers: list[float]) -> None:
        reconstructor = self.device("reconstructor")
        if len(numbers) not in (1, 9):
            raise ValueError(f"numbers: expected 1 (along its normal) or 9 (corner, u, v) in mm, got {len(numbers)}")
        self.known(reconstructor, name)
        if len(numbers) == 1:
            numbers = self._along_its_normal(reconstructor, name, numbers[0])
        reconstructor.command_inout("MoveSlice", (list(numbers), [name]))
        self.await_its_picture(reconstructor, name)

    def known(self, reconstructor: Any, name: str) -> None:
        """Raises ValueError where there is no such slice."""
        names = [a.removeprefix("geometry_") for a in reconstructor.get_attribute_list() if a.startswith("geometry_")]
        if name not in names:
            raise ValueError(f"slice: expected one of {', '.join(names)}, got {name}")

    def _along_its_normal(self, reconstructor: Any, name: str, offset_mm: float) -> list[float]:
        place, shape = reconstructor.read_attributes([f"geometry_{name}", f"shape_{name}"])
        if place.quality == tango.AttrQuality.ATTR_INVALID:
            raise RuntimeError(f"slice {name}: it has no place yet, no scan has begun: give nine numbers")
        corner, u, v = (tuple(edge) for edge in place.value.reshape(3, 3))
        return SliceGeometry(corner, u, v, *(int(n) for n in shape.value)).moved_to(offset_mm).nine.tolist()

    def await_its_picture(self, reconstructor: Any, name: str, timeout_s: float = 30.0) -> None:
        """Wait for a picture of the present place, where one is to be expected."""
        denoiser = self.device("denoiser")
        if not self.read(reconstructor, "running") or self.read(reconstructor, "fill") < 1:
            self.output(f"slice {name}: its picture follows when a window is full: {self.status_of(reconstructor)}")
            return
        self.wait(
            lambda: self.read(denoiser, f"generation_{name}") == self.read(reconstructor, "generation"),
            timeout_s,
            lambda: f"slice {name} is not shown there yet; {self.status_of(denoiser)}",
            f"slice {name} to be shown at its place",
        )
        self.output(f"slice {name} is shown at its place")


class jit_add_slice(jit_move_slice):
    """Add a slice, at the place of xy or at the one that is given, and wait for its picture."""

    param_def = [
        ["slice", Type.String, None, "its name: a letter and up to 15 of a-z, 0-9, _"],
        ["numbers", [["mm", Type.Float, None, "mm"], {"min": 0}], None, "none, or nine in mm: corner, u, v"],
    ]

    def run(self, name: str, numbers: list[float]) -> None:
        if len(numbers) not in (0, 9):
            raise ValueError(f"numbers: expected none or 9 (corner, u, v) in mm, got {len(numbers)}")
        reconstructor = self.device("reconstructor")
        reconstructor.command_inout("AddSlice", name)
        if numbers:
            try:
                reconstructor.command_inout("MoveSlice", (list(numbers), [name]))
            except tango.DevFailed:
                reconstructor.command_inout("RemoveSlice", name)  # nothing is half done
                raise
        self.await_its_picture(reconstructor, name)
        self.output("jit_setup makes channels and a motor of it")


class jit_remove_slice(JitMacro):
    """Remove a slice."""

    param_def = [["slice", Type.String, None, "name of the slice"]]

    def run(self, name: str) -> None:
        self.device("reconstructor").command_inout("RemoveSlice", name)
        self.output(f"slice {name} is removed; jit_setup takes its channels out of the measurement group")


class jit_snapshot(JitMacro):
    """Write every slice, raw and denoised, into a new HDF5 file on the denoiser's host."""

    param_def = [["path", Type.String, None, "path of the file, from the root"]]

    def run(self, path: str) -> None:
        if not path.startswith("/"):
            raise ValueError(f"path: expected one from the root, on the denoiser's host, got {path}")
        self.device("denoiser").command_inout("Snapshot", path)
        self.output(f"written: {path}")


class jit_series(JitMacro):
    """A scan of so many pictures, one after the other, that moves nothing."""

    param_def = [
        ["pictures", Type.Integer, None, "how many, 2 or more"],
        ["integ_time", Type.Float, 0.1, "shortest time of each, in s"],
    ]

    def run(self, pictures: int, integ_time: float) -> None:
        if pictures < 2:
            raise ValueError(f"pictures: expected 2 or more, got {pictures}; ct takes one")
        try:
            number = f"{self.getEnv('JitName')}_picture"
        except UnknownEnv:
            number = "jit_picture"
        if self.getObj(number) is None:
            raise RuntimeError(f"{number}: expected it to be there; jit_setup makes it")
        self.execMacro(["ascan", number, 1, pictures, pictures - 1, integ_time])


class jit_freeze(JitMacro):
    """Keep the weights in use, or (False) take the newest again."""

    param_def = [["frozen", Type.Boolean, True, "True: keep them; False: take the newest again"]]

    def run(self, frozen: bool) -> None:
        denoiser = self.device("denoiser")
        denoiser.write_attribute("frozen", frozen)
        kept = f"weights {self.read(denoiser, 'weights_version')} are kept"
        self.output(kept if frozen else "the newest weights are taken")
