"""The Denoiser device and its server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from devices.attributes import number_property, order, text_property
from devices.base import Door
from devices.server import serve, upstream_endpoint
from tango_jit.services.denoiser import DenoiserService
from tango_jit.services.slices import DEFAULTS
from tango_jit.threads import use_safe_layer


class Denoiser(Door):
    """Denoises every slice with the newest weights, and says how well.

    Reads slices from its reconstructor and weights from its trainer; shows every slice denoised and as
    reconstructed, side by side.
    """

    service_class = DenoiserService
    kept: ClassVar[Mapping[str, str]] = {"slice_names": "SliceNames"}

    ReconstructorDevice = text_property("The device that publishes slices.")
    TrainerDevice = text_property("The device that publishes weights.")
    DenoisedEndpoint = text_property("Where to publish denoised slices.", "tcp://127.0.0.1:*")
    Backend = text_property("Where the network runs: cpu or cuda. Where that cannot run: cpu, and ALARM.", "cpu")
    BudgetMb = number_property("Largest backlog of slices, in MB.", 256)
    Threads = number_property("Processor threads; 0: a share of the cores, as all servers on one computer need it.", 0)

    SliceNames = text_property(
        "The slices that there were last, kept by the device itself: their attributes are there from the start.",
        " ".join(DEFAULTS),
    )

    def build(self) -> DenoiserService:
        use_safe_layer()
        return DenoiserService(
            upstream_endpoint(self.ReconstructorDevice, "slices_endpoint"),
            upstream_endpoint(self.TrainerDevice, "weights_endpoint"),
            denoised_endpoint=self.DenoisedEndpoint,
            budget_bytes=self.BudgetMb << 20,
            backend=self.Backend,
            threads=self.Threads,
            slice_names=self.SliceNames,
        )

    @order("Run again after Stop or FAULT.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @order("Stop denoising; pictures stay readable.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")

    @order("Keep the present weights; the attribute frozen undoes it.")
    def Freeze(self) -> None:
        self.guarded(lambda: self.service.write("frozen", True), "Freeze")

    @order("Go back to the weights before the present ones, and freeze them.")
    def Rollback(self) -> None:
        self.guarded(self.service.rollback, "Rollback")

    @order(
        "Write an HDF5 file: all slices, raw and denoised, with what made them. Its path, on the host of this server.",
        str,
    )
    def Snapshot(self, path: str) -> None:
        self.guarded(lambda: self.service.snapshot(Path(path)), "Snapshot")


def main() -> None:
    """Console script tango-jit-denoiser."""
    serve(Denoiser, "tango-jit-denoiser")


if __name__ == "__main__":
    main()
