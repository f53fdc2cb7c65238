"""Buttons: what an operator does in a shift. Dangerous ones ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from PyQt6.QtWidgets import (
    QGridLayout,
    QGroupBox,
    QInputDialog,
    QLabel,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from devices.gui.session import Session
from devices.watch.look import Seen


class Button(NamedTuple):
    """`asks`: what the operator is asked before; "": nothing. `argument`: what is to be written with it."""

    text: str
    member: str
    command: str
    tip: str
    asks: str = ""
    argument: str = ""


GROUPS: dict[str, tuple[Button, ...]] = {
    "Everything": (
        Button("Start", "supervisor", "Start", "Start every device, the detector last"),
        Button("Stop", "supervisor", "Stop", "Stop every device", "Stop every device? Pictures and training end."),
    ),
    "Detector (simulated)": (
        Button("Start", "detector", "Start", "Begin a replay, or go on after Pause"),
        Button("Pause", "detector", "Pause", "Hold the replay"),
        Button("Stop", "detector", "Stop", "End the series", "End the series of the simulated detector?"),
    ),
    "Trainer": (
        Button("Train", "trainer", "Start", "Train: after Pause or Stop"),
        Button("Pause", "trainer", "Pause", "Hold training; frames are still received"),
        Button("Roll back", "trainer", "Rollback", "Undo the last Load, or go back to the best weights before",
               "Give up the present weights for those before?"),
        Button("Reset", "trainer", "ResetNetwork", "Begin with a new network",
               "Begin with a new network? What this one has learned is given up."),
        Button("Save ...", "trainer", "Save", "Write the weights on the trainer's computer",
               argument="weights to write"),
        Button("Load ...", "trainer", "Load", "Go on from a file on the trainer's computer",
               "Give up the present network for that of the file?", "weights to load"),
        Button("Autotune", "trainer", "AutoTune", "Compare networks on this stream, the best one takes over"),
    ),
    "Denoiser": (
        Button("Freeze", "denoiser", "Freeze", "Keep the present weights; newer ones wait"),
        Button("Thaw", "denoiser", "frozen=False", "Take the newest weights again"),
        Button("Roll back", "denoiser", "Rollback", "Weights before the present ones, frozen",
               "Go back to the weights before, and keep them?"),
        Button("Snapshot ...", "denoiser", "Snapshot", "All slices into an HDF5 file on the denoiser's computer",
               argument="file to write"),
    ),
    "Reconstructor": (
        Button("Find centre", "reconstructor", "FindCenter", "Search the centre of rotation"),
        Button("Take centre", "reconstructor", "center", "Use the centre that was found; the window fills anew",
               "Reconstruct about the centre that was found? The window fills anew."),
        Button("Preview", "reconstructor", "MakePreview", "Make the preview volume now"),
        Button("Add slice ...", "reconstructor", "AddSlice", "A new slice", argument="name of the slice"),
        Button("Remove slice ...", "reconstructor", "RemoveSlice", "Remove a slice", "Remove this slice?",
               "name of the slice"),
        Button("Reset", "reconstructor", "Reset", "Forget the window and the counters",
               "Forget the window? Pictures stop for a turn."),
    ),
    "Recorder": (
        Button("Record", "recorder", "Record", "Begin a run, with the pictures that wait"),
        Button("Finish", "recorder", "Finish", "End the run"),
        Button("Mark ...", "recorder", "Mark", "A remark into the journal of the run", argument="remark"),
    ),
}  # fmt: skip
FILES = ("Save", "Load", "Snapshot")


class Controls(QWidget):
    """The buttons; those of a device that does not answer are off. `ask` and `prompt` are asked of the operator."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.ask: Callable[[str], bool] = self._ask
        self.prompt: Callable[[str, str], str] = self._prompt
        self.buttons: dict[tuple[str, str], QPushButton] = {}
        self._condition: dict[str, QLabel] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        for title, buttons in GROUPS.items():
            if buttons[0].member in session.devices:
                layout.addWidget(self._group(title, buttons))
        layout.addStretch(1)
        session.seen.connect(self._look)

    def _group(self, title: str, buttons: tuple[Button, ...]) -> QGroupBox:
        box = QGroupBox(title)
        grid = QGridLayout(box)
        grid.setContentsMargins(6, 4, 6, 4)
        grid.setSpacing(3)
        label = QLabel("")
        label.setWordWrap(True)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self._condition[buttons[0].member] = label
        for number, button in enumerate(buttons):
            widget = QPushButton(button.text)
            widget.setToolTip(button.tip)
            widget.clicked.connect(lambda _=False, b=button: self.press(b))
            grid.addWidget(widget, *divmod(number, 3))
            self.buttons[button.member, button.command] = widget
        grid.addWidget(label, (len(buttons) + 2) // 3, 0, 1, 3)
        return box

    def press(self, button: Button) -> None:
        """What a click does."""
        argument = None
        if button.argument:
            argument = self.prompt(button.command, button.argument)
            if not argument:
                return
        if button.asks and not self.ask(f"{button.asks}{f'  ({argument})' if argument else ''}"):
            return
        orders = self._session.orders
        if button.command == "center":
            found = self._session.value("reconstructor", "center_found_px")
            if found is None:
                self._session.said.emit("reconstructor: no centre was found yet: Find centre searches", True)
                return
            orders.write("reconstructor", "center_offset_px", found)
        elif "=" in button.command:
            name, _, value = button.command.partition("=")
            orders.write(button.member, name, value == "True")
        else:
            orders.command(button.member, button.command, argument)

    def _look(self, seen: Seen) -> None:
        for (member, _), widget in self.buttons.items():
            if member == seen.member:
                widget.setEnabled(not seen.trouble)
        label = self._condition.get(seen.member)
        if label is not None:
            text = seen.trouble or f"{seen.state}: {seen.status}"
            label.setText(text)
            label.setToolTip(text)
        if seen.member == "denoiser" and not seen.trouble:
            frozen = bool(seen.values.get("frozen"))
            self.buttons["denoiser", "Freeze"].setEnabled(not frozen)
            self.buttons["denoiser", "frozen=False"].setEnabled(frozen)
        if seen.member == "recorder" and not seen.trouble:
            recording = bool(seen.values.get("recording"))
            self.buttons["recorder", "Record"].setEnabled(not recording)
            for command in ("Finish", "Mark"):
                self.buttons["recorder", command].setEnabled(recording)

    def _ask(self, question: str) -> bool:
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return QMessageBox.question(self, "tango-jit", question, yes | no, no) == yes  # Enter gives nothing up

    def _prompt(self, command: str, what: str) -> str:
        if command == "RemoveSlice":
            text, accepted = QInputDialog.getItem(self, "tango-jit", what, list(self._session.names), 0, False)
        else:
            told = f"{what}: path on the computer of that device" if command in FILES else what
            text, accepted = QInputDialog.getText(self, "tango-jit", told)
        return text if accepted else ""
