"""A camera of areaDetector and a tomoScan beside it, by p4p's own server: what they publish, and how they misbehave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from p4p import Type, Value
from p4p.nt import NTEnum, NTNDArray, NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

FIELD = Type([("value", "af"), ("sizex", "i"), ("sizey", "i")])
ANGLES = Type([("value", "af"), ("sizex", "i")])
NDARRAY = NTNDArray.buildType()
START_S = 1_700_000_000
SHAPE = (5, 8)
MEMBERS = {"i1": "byte", "i2": "short", "i4": "int", "i8": "long", "f4": "float", "f8": "double", "b1": "boolean"}
MEMBERS |= {f"u{kind[1]}": f"u{name}" for kind, name in MEMBERS.items() if kind.startswith("i")}


class AreaDetector:
    """PVs `image`, `angles`, `first`, `position`, `type`, `dark` and `flat`, on loopback and ports of their own."""

    def __init__(self, form: Type = NDARRAY) -> None:
        self.form = form
        empty = Value(form, {"uniqueId": 0})
        self.pvs = {
            "image": SharedPV(initial=empty),
            "angles": SharedPV(initial=Value(ANGLES, {})),
            "first": SharedPV(nt=NTScalar("i"), initial=0),
            "position": SharedPV(nt=NTScalar("d"), initial=0.0),
            "type": SharedPV(nt=NTEnum(), initial={"index": 0, "choices": ["Projection", "FlatField", "DarkField"]}),
            "dark": SharedPV(initial=Value(FIELD, {})),
            "flat": SharedPV(initial=Value(FIELD, {})),
        }
        self.server: Server | None = None
        self.start()

    def start(self, conf: Mapping[str, str] | None = None) -> None:
        """Serve; `conf`: where it was before."""
        providers = [{f"cam:{name}": pv for name, pv in self.pvs.items()}]
        if conf is None:
            self.server = Server(providers=providers, isolate=True)
        else:
            self.server = Server(providers=providers, conf=dict(conf), useenv=False)
        self.conf = self.server.conf()

    def stop(self) -> None:
        """Vanish, as an IOC that was killed."""
        if self.server is not None:
            self.server.stop()
            self.server = None

    def field(self, name: str, mean: np.ndarray) -> None:
        rows, cols = mean.shape
        self.pvs[name].post(Value(FIELD, {"value": mean.reshape(-1), "sizex": cols, "sizey": rows}))

    def set_angles(self, degrees: Any) -> None:
        self.pvs["angles"].post(Value(ANGLES, {"value": np.asarray(degrees, np.float32), "sizex": len(degrees)}))

    def set_position(self, degrees: float, at_s: float) -> None:
        self.pvs["position"].post(degrees, timestamp=at_s)

    def set_type(self, index: int) -> None:
        self.pvs["type"].post(index)

    def expose(self, number: int, pixels: np.ndarray, at_s: float | None = None, **fields: Any) -> None:
        """One frame; `fields` replace those of the image."""
        rows, cols = pixels.shape
        stamp = START_S + 0.01 * number if at_s is None else at_s
        time = {"secondsPastEpoch": int(stamp), "nanoseconds": int(1e9 * (stamp % 1))}
        attributes = fields.pop("attributes", {"ColorMode": 0})
        image: dict[str, Any] = {
            "uniqueId": number,
            "codec": {"name": ""},
            "dimension": [axis(cols), axis(rows)],
            "uncompressedSize": pixels.nbytes,
            "compressedSize": pixels.nbytes,
            "dataTimeStamp": time,
            "timeStamp": time,
            "attribute": [{"name": name, "value": value} for name, value in attributes.items()],
        }
        payload = fields.pop("value", pixels.reshape(-1))
        image["value"] = f"{MEMBERS[payload.dtype.str[1:]]}Value", payload
        self.pvs["image"].post(Value(self.form, image | fields))

    def close(self) -> None:
        self.stop()


def axis(size: int, offset: int = 0, binning: int = 1) -> dict[str, Any]:
    """One dimension of an image."""
    return {"size": size, "offset": offset, "fullSize": size, "binning": binning, "reverse": False}


def pixels(number: int, dtype: str = "u2", shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Frame `number`: no two pixels alike, and no two frames."""
    return (number + np.arange(np.prod(shape)).reshape(shape)).astype(dtype)
