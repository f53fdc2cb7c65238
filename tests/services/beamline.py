"""What a recorder listens to, and what its tests ask of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tango_jit.geometry import ScanGeometry
from tango_jit.runs import Run
from tango_jit.services.recorder import RecorderService
from tango_jit.services.run_names import numbered
from tango_jit.streams import Publisher, View
from tests.events import wait_until
from tests.runs import picture, place, weights

SCAN = ScanGeometry.cone(rows=4, cols=6, pixel_mm=1.0, source_axis_mm=100.0, source_detector_mm=200.0)


class Beamline:
    """The four streams that a recorder listens to, and what the devices are set to."""

    def __init__(self) -> None:
        names = ("denoised", "weights", "filtered", "projections")
        self.streams = {name: Publisher("tcp://127.0.0.1:*", budget_bytes=64 << 20) for name in names}
        self.settings: dict[str, Any] = {"buffer_size": 320}
        self.k = 0
        self.look: Any = self.facts

    def facts(self) -> dict[str, dict[str, Any]]:
        return {"trainer": {"device": "jit/trainer/1", "version": "1", "settings": dict(self.settings)}}

    def recorder(self, **options: Any) -> RecorderService:
        denoised, weights, filtered, projections = (partial(getattr, s, "endpoint") for s in self.streams.values())
        service = RecorderService(denoised, weights, filtered, projections, self.look, **options)
        service.start()
        return service

    def show(self, *names: str, rows: int = 16, cols: int = 24) -> None:
        """These are the slices now."""
        self.streams["filtered"].send(View(1, "ram-lak", dict.fromkeys(names, place(rows, cols))))

    def picture(self, name: str = "xy", **fields: Any) -> int:
        """Send one more picture; returns its last frame."""
        self.k += 1
        self.streams["denoised"].send(picture(self.k, name, **fields))
        return 60 * self.k + 149

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


def seen(service: RecorderService, beamline: Beamline) -> None:
    """The recorder has the view, the weights and one picture."""

    def came() -> bool:  # a subscription takes a while, and who sends does not hear of it
        if not service._shapes:
            beamline.show("xy", "xz")
        if not service._weights:
            beamline.streams["weights"].send(weights())
        if not service.values["pictures_waiting"]:
            beamline.streams["denoised"].send(picture(beamline.k))
        return bool(service._shapes and service._weights and service.values["pictures_waiting"])

    wait_until(came, what="the first of everything")
    if beamline.look == beamline.facts:
        wait_until(lambda: service._watch and service._watch.last, what="the settings")


def newest(service: RecorderService) -> int:
    """The last frame of the newest picture of xy in the file that is written."""
    path = numbered(Path(service.values["file"]), max(service.values["parts"], 1))
    if not path.exists():
        return -1  # it comes with the first picture
    with Run(path) as run:
        return run.picture("xy", -1).last_frame if run.count("xy") else -1


def finished(service: RecorderService) -> Path:
    service.finish()
    wait_until(lambda: not service.values["recording"], what="the end of the run")
    return Path(service.values["file"])
