"""The Reconstructor device and its server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import tango

from devices.attributes import number_property, order, text_property
from devices.base import Door
from devices.server import serve, upstream_endpoint
from tango_jit.services.reconstructor import ReconstructorService
from tango_jit.services.slices import SliceTable
from tango_jit.threads import use_safe_layer


class Reconstructor(Door):
    """Reconstructs freely placed slices live from the newest turn of projections.

    Reads raw frames from its detector, publishes filtered projections (for the trainer) and slices as their even and
    odd halves (for the denoiser), and shows every slice as an image in 1/mm.
    """

    service_class = ReconstructorService
    kept: ClassVar[Mapping[str, str]] = {"slices": "Slices"}

    DetectorDevice = text_property("The device that sends the raw frames.")
    DetectorAttribute = text_property("Its attribute with the endpoint.", "raw_endpoint")
    FilteredEndpoint = text_property("Where to publish filtered projections.", "tcp://127.0.0.1:*")
    SlicesEndpoint = text_property("Where to publish slices.", "tcp://127.0.0.1:*")
    Backend = text_property(
        "Backprojector: cpu, cuda, cuda_half, astra or reference (slow, exact). Where it cannot run: cpu, and ALARM.",
        "cpu",
    )
    BudgetMb = number_property("Largest backlog of each stream, in MB.", 256)
    Threads = number_property("Processor threads; 0: a share of the cores, as all servers on one computer need it.", 0)
    Slices = text_property("The slices, kept by the device itself (JSON).", "")

    def build(self) -> ReconstructorService:
        use_safe_layer()
        return ReconstructorService(
            upstream_endpoint(self.DetectorDevice, self.DetectorAttribute),
            filtered_endpoint=self.FilteredEndpoint,
            slices_endpoint=self.SlicesEndpoint,
            backend=self.Backend,
            threads=self.Threads,
            slices=SliceTable.from_json(self.Slices) if self.Slices else None,
            budget_bytes=self.BudgetMb << 20,
        )

    @order("Run again after Stop or FAULT.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @order("Stop processing frames; slices stay readable.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")

    @order("Forget the window and the counters; begin anew with the next frame.")
    def Reset(self) -> None:
        self.guarded(self.service.reset, "Reset")

    @order("Add a slice. Its name: a letter and up to 15 of a-z, 0-9, _.", str)
    def AddSlice(self, name: str) -> None:
        self.guarded(lambda: self.service.add_slice(name), "AddSlice")

    @order("Remove a slice. Its name.", str)
    def RemoveSlice(self, name: str) -> None:
        self.guarded(lambda: self.service.remove_slice(name), "RemoveSlice")

    @order(
        "Place a slice, at once: [9 numbers in mm: origin, u, v], [name of the slice].", tango.DevVarDoubleStringArray
    )
    def MoveSlice(self, place: Any) -> None:
        numbers, names = place

        def move() -> None:
            if len(names) != 1:
                raise ValueError(f"MoveSlice: expected 9 numbers and 1 name, got {len(numbers)} and {len(names)}")
            self.service.move_slice(names[0], numbers)

        self.guarded(move, "MoveSlice")

    @order("Search the centre of rotation in the present window; progress and center_found_px tell.", at_work=True)
    def FindCenter(self) -> None:
        self.guarded(self.service.find_center, "FindCenter")

    @order("Make a preview volume of the present window; preview_frame_number tells when it is there.", at_work=True)
    def MakePreview(self) -> None:
        self.guarded(self.service.make_preview, "MakePreview")


def main() -> None:
    """Console script tango-jit-reconstructor."""
    serve(Reconstructor, "tango-jit-reconstructor")


if __name__ == "__main__":
    main()
