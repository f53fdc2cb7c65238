"""The EpicsCamera device and its server."""

from __future__ import annotations

from devices.attributes import number_property, order, text_property
from devices.base import Door
from devices.server import serve
from tango_jit.services.camera import CameraService


class EpicsCamera(Door):
    """Takes the frames of an areaDetector over PVAccess and sends them on as a detector does.

    Name the PVs in the properties, and say in the attributes what no camera knows (pixel size, beam, angles). Point
    `DetectorDevice` of the Reconstructor here. It runs by itself, and takes what the camera sends.
    """

    service_class = CameraService

    ImagePv = text_property("The PV with the frames (NTNDArray), such as 13SIM1:Pva1:Image.")
    AnglesPv = text_property("The angles of the scan, as tomoScan's StreamTheta; empty: there is none.", "")
    FirstProjectionPv = text_property("How many frames come before the first angle (FirstProjid); empty: none.", "")
    PositionPv = text_property("Position of the rotation stage in degrees, with a time; empty: there is none.", "")
    FrameTypePv = text_property("What frames show now: projection, flat or dark; empty: there is none.", "")
    DarkPv = text_property("The mean dark, as tomoScan's StreamDarkFields; empty: there is none.", "")
    FlatPv = text_property("The mean flat, as tomoScan's StreamFlatFields; empty: there is none.", "")
    QueueSize = number_property("How many frames the camera's server is asked to keep for this one.", 64)
    RawEndpoint = text_property("Where the reconstructor pulls frames.", "tcp://127.0.0.1:*")
    MonitorEndpoint = text_property("Where others may listen.", "tcp://127.0.0.1:*")
    BudgetMb = number_property("Largest backlog of frames, in MB.", 256)

    def build(self) -> CameraService:
        try:
            from devices.epics.source import PvaCamera, PVs  # without p4p the server says so, instead of not starting
        except ModuleNotFoundError as error:
            raise RuntimeError(f"expected the package {error.name}, which comes with the extra epics") from error
        pvs = PVs(
            self.ImagePv,
            self.AnglesPv,
            self.FirstProjectionPv,
            self.PositionPv,
            self.FrameTypePv,
            self.DarkPv,
            self.FlatPv,
        )
        return CameraService(
            PvaCamera(pvs, queue_size=self.QueueSize, budget_bytes=self.BudgetMb << 20),
            raw_endpoint=self.RawEndpoint,
            monitor_endpoint=self.MonitorEndpoint,
            budget_bytes=self.BudgetMb << 20,
        )

    @order("Run again after Stop or FAULT: connect, and begin a new series with the next frame.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @order("End the series and disconnect.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")


def main() -> None:
    """Console script tango-jit-epics-camera."""
    serve(EpicsCamera, "tango-jit-epics-camera")


if __name__ == "__main__":
    main()
