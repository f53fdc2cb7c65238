"""The Recorder device and its server."""

from __future__ import annotations

from devices.attributes import number_property, order, text_property
from devices.base import Door
from devices.facts import Facts
from devices.server import serve, upstream_endpoint
from tango_jit.services.recorder import RecorderService


class Recorder(Door):
    """Keeps pictures with what made them in files: NeXus/HDF5 that others read while they grow.

    Set `folder`, then Record; pictures of the last `pre_trigger_s` belong to it. Finish ends the run. It only listens:
    no picture ever waits for a disk.
    """

    service_class = RecorderService

    DenoiserDevice = text_property("The device that publishes denoised slices.")
    TrainerDevice = text_property("The device that publishes weights.")
    ReconstructorDevice = text_property("The device that publishes which slices there are.")
    DetectorDevice = text_property("The device that sends the raw frames.")
    DetectorAttribute = text_property(
        "Its attribute with the endpoint of a stream that others may listen to.", "monitor_endpoint"
    )
    BudgetMb = number_property("Most memory of the pictures that wait, and of the projections, in MB each.", 512)

    def build(self) -> RecorderService:
        members = {
            "detector": self.DetectorDevice,
            "reconstructor": self.ReconstructorDevice,
            "trainer": self.TrainerDevice,
            "denoiser": self.DenoiserDevice,
        }
        return RecorderService(
            upstream_endpoint(self.DenoiserDevice, "denoised_endpoint"),
            upstream_endpoint(self.TrainerDevice, "weights_endpoint"),
            upstream_endpoint(self.ReconstructorDevice, "filtered_endpoint"),
            upstream_endpoint(self.DetectorDevice, self.DetectorAttribute),
            Facts(members),
            budget_bytes=self.BudgetMb << 20,
        )

    @order("Listen again after Stop or FAULT.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @order("Listen no more; a run that is being recorded is ended.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")

    @order("Begin a run: a new file in the folder, with the pictures that wait.", at_work=True)
    def Record(self) -> None:
        self.guarded(self.service.record, "Record")

    @order("End the run: what has come is written, then recording is false.", at_work=True)
    def Finish(self) -> None:
        self.guarded(self.service.finish, "Finish")

    @order("Write a remark into the journal of the run. Its text.", str, at_work=True)
    def Mark(self, text: str) -> None:
        self.guarded(lambda: self.service.mark(text), "Mark")


def main() -> None:
    """Console script tango-jit-recorder."""
    serve(Recorder, "tango-jit-recorder")


if __name__ == "__main__":
    main()
