"""The SimulatedDetector device and its server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tango.server import command

from devices.attributes import number_property, text_property
from devices.base import Door
from devices.server import serve
from sim.detector import DetectorService


class SimulatedDetector(Door):
    """Replays a recording at a virtual framerate, through the path that real frames take.

    Set `recording` and `frame_period_s`, then Start. Pause holds, Step sends single frames, Stop ends the series.
    Seek, or writing `position`, goes anywhere in the recording at any time.
    """

    service_class = DetectorService
    kept: ClassVar[Mapping[str, str]] = {"recording": "Recording"}

    RawEndpoint = text_property("Where the reconstructor pulls frames.", "tcp://127.0.0.1:*")
    MonitorEndpoint = text_property("Where others may listen.", "tcp://127.0.0.1:*")
    Recording = text_property("The recording, kept by the device itself.", "")
    BudgetMb = number_property("Largest backlog of frames, in MB.", 64)

    def build(self) -> DetectorService:
        return DetectorService(
            raw_endpoint=self.RawEndpoint,
            monitor_endpoint=self.MonitorEndpoint,
            budget_bytes=self.BudgetMb << 20,
            recording=self.Recording,
        )

    def ready(self) -> None:
        """A detector waits for Start."""

    @command(doc_in="Begin a new series, or go on after Pause.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @command(doc_in="End the series.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")

    @command(doc_in="Hold the replay.")
    def Pause(self) -> None:
        self.guarded(self.service.pause, "Pause")

    @command(dtype_in=int, doc_in="How many frames to send; the replay is paused afterwards.")
    def Step(self, frames: int) -> None:
        self.guarded(lambda: self.service.step(frames), "Step")

    @command(dtype_in=int, doc_in="Index in the recording to go on with; the same as writing `position`.")
    def Seek(self, index: int) -> None:
        self.guarded(lambda: self.service.write("position", index), "Seek")

    @command(
        dtype_in=float,
        doc_in="For how many seconds to send nothing, at most 600. What the camera makes in the last second of them "
        "comes at once afterwards, what it made before is lost.",
    )
    def Stall(self, seconds: float) -> None:
        self.guarded(lambda: self.service.stall(seconds), "Stall")

    @command(doc_in="Die in mid-scan: no end of the series, and a new one from here with frame numbers from 0.")
    def Restart(self) -> None:
        self.guarded(self.service.restart, "Restart")

    @command(doc_in="Take dark and flat again, between two frames: the same means with new noise.")
    def RetakeFields(self) -> None:
        self.guarded(self.service.retake_fields, "RetakeFields")


def main() -> None:
    """Console script tango-jit-detector."""
    serve(SimulatedDetector, "tango-jit-detector")


if __name__ == "__main__":
    main()
