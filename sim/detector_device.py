"""The SimulatedDetector device and its server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from devices.attributes import number_property, order, text_property
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

    @order("Begin a new series, or go on after Pause.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @order("End the series.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")

    @order("Hold the replay.", at_work=True)
    def Pause(self) -> None:
        self.guarded(self.service.pause, "Pause")

    @order("Send so many frames; the replay is paused afterwards.", int)
    def Step(self, frames: int) -> None:
        self.guarded(lambda: self.service.step(frames), "Step")

    @order("Go on with this index in the recording; the same as writing `position`.", int)
    def Seek(self, index: int) -> None:
        self.guarded(lambda: self.service.write("position", index), "Seek")

    @order(
        "Send nothing for so many seconds, at most 600. What the camera makes in the last second of them "
        "comes at once afterwards, what it made before is lost.",
        float,
        at_work=True,
    )
    def Stall(self, seconds: float) -> None:
        self.guarded(lambda: self.service.stall(seconds), "Stall")

    @order("Die in mid-scan: no end of the series, and a new one from here with frame numbers from 0.", at_work=True)
    def Restart(self) -> None:
        self.guarded(self.service.restart, "Restart")

    @order("Take dark and flat again, between two frames: the same means with new noise.", at_work=True)
    def RetakeFields(self) -> None:
        self.guarded(self.service.retake_fields, "RetakeFields")


def main() -> None:
    """Console script tango-jit-detector."""
    serve(SimulatedDetector, "tango-jit-detector")


if __name__ == "__main__":
    main()
