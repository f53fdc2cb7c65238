"""Macros of a Sardana MacroServer: runs of the recorder."""

# pyright: reportIncompatibleMethodOverride=false
# A macro has parameters of its own: they are what Macro.run is for.

from __future__ import annotations

from sardana.macroserver.macro import Optional

from devices.sardana.jit_macro import JitMacro, Type


class jit_record(JitMacro):
    """Begin a run of the recorder: pictures with what made them, in a new file; those of the last seconds are in it."""

    param_def = [
        ["folder", Type.String, Optional, "folder on the recorder's host, from the root; none: as it is set"],
        ["title", Type.String, Optional, "title of the run, for people; none: as it is set"],
    ]

    def run(self, folder: str | None, title: str | None) -> None:
        recorder = self.device("recorder")
        for name, value in (("folder", folder), ("title", title)):
            if value is not None:
                recorder.write_attribute(name, value)
        recorder.command_inout("Record")
        self.wait(
            lambda: bool(self.read(recorder, "file")) and self.read(recorder, "pictures_recorded") > 0,
            30.0,
            lambda: self.status_of(recorder),
            "the first picture of the run",
        )
        self.output(f"recording: {self.read(recorder, 'file')}")


class jit_mark(JitMacro):
    """Write a remark into the journal of the run, with its time."""

    param_def = [["words", [["word", Type.String, None, "a word"], {"min": 1}], None, "the remark"]]

    def run(self, words: list[str]) -> None:
        self.device("recorder").command_inout("Mark", " ".join(words))
        self.output("marked")


class jit_finish(JitMacro):
    """End the run, and wait until all of it is written."""

    param_def = [["timeout_s", Type.Float, 60.0, "how long to wait, in s"]]

    def run(self, timeout_s: float) -> None:
        recorder = self.device("recorder")
        recorder.command_inout("Finish")
        self.wait(
            lambda: not self.read(recorder, "recording"),
            timeout_s,
            lambda: self.status_of(recorder),
            "the run to be written",
        )
        file, recorded, lost = (self.read(recorder, name) for name in ("file", "pictures_recorded", "pictures_lost"))
        self.output(f"{file}: {recorded} pictures, {lost} lost")
