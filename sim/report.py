"""What a run of the demo was: figures as JSON, pictures as PNG."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tango
from PIL import Image as Picture

from devices.server import upstream_endpoint
from sim.judgement import Checkpoint, Judged
from tango_jit.recon.pipeline import Options
from tango_jit.streams import Denoised, Mailbox, Subscriber

WATCHED = {
    "detector": (
        "frames_sent",
        "lateness_p50_ms",
        "lateness_p99_ms",
        "jitter_ms",
        "frames_held_back",
        "State",
        "Status",
    ),
    "reconstructor": (
        "frames_received",
        "frames_lost",
        "fill",
        "rate_hz",
        "slices_reconstructed",
        "reconstruction_ms",
        "State",
        "Status",
    ),
    "trainer": ("samples_per_s", "steps_per_s", "steps", "patch_accuracy", "State", "Status"),
    "denoiser": ("accuracy", "weights_version", "latency_ms", "rate_hz", "slices_denoised", "State", "Status"),
}


CHECKPOINTS = 6  # comparing one with the truth takes seconds


class Recorder:
    """Follows a run: samples the devices, listens to the denoised slices, keeps curves and the last pictures."""

    def __init__(self, proxies: dict[str, tango.DeviceProxy]) -> None:
        self._proxies = proxies
        self._started = time.time()
        self._inbox = Mailbox(64 << 20, "drop_oldest")
        self._subscriber = Subscriber(upstream_endpoint(proxies["denoiser"].name(), "denoised_endpoint"), self._inbox)
        self.accuracy: list[tuple[float, float]] = []
        self.patch_accuracy: list[tuple[float, float]] = []
        self.rates: dict[str, list[float]] = {"slices_hz": [], "pairs_per_s": [], "steps_per_s": []}
        self.latency_ms: list[float] = []
        self.events: list[dict[str, Any]] = []
        self.last: dict[str, Denoised] = {}
        self.checkpoints: list[Checkpoint] = []
        self._every_s, self._next_s = 5.0, 0.0
        self.values: dict[str, dict[str, Any]] = {}

    def sample(self) -> dict[str, dict[str, Any]]:
        """Read every watched attribute (None: no value yet, or the device does not answer)."""
        self._listen()
        for member, names in WATCHED.items():
            try:
                read: Any = self._proxies[member].read_attributes(list(names))
                self.values[member] = {
                    name: None if r.has_failed else r.value for name, r in zip(names, read, strict=True)
                }
            except tango.DevFailed:
                self.values[member] = dict.fromkeys(names) | {"State": "UNREACHABLE", "Status": "does not answer"}
        now = time.time() - self._started
        if self.last and now >= self._next_s:
            self._keep(now)
        for curve, member, name in (
            (self.accuracy, "denoiser", "accuracy"),
            (self.patch_accuracy, "trainer", "patch_accuracy"),
        ):
            value = self.values[member][name]
            if value is not None:
                curve.append((round(now, 2), float(value)))
        figures = (
            ("slices_hz", "denoiser", "rate_hz"),
            ("pairs_per_s", "trainer", "samples_per_s"),
            ("steps_per_s", "trainer", "steps_per_s"),
        )
        for key, member, name in figures:
            value = self.values[member][name]
            if value:
                self.rates[key].append(float(value))
        return self.values | {"trend": {"accuracy": self.trend()}}

    def settle(self, patience_s: float = 5.0) -> None:
        """Sample until the reconstructor has told of the end of the series, so that the last figures fit together."""
        deadline = time.monotonic() + patience_s
        while "ended" not in str(self.sample()["reconstructor"]["Status"]) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(0.5)  # the slices of the last update on their way through the denoiser
        self.sample()
        if self.last:
            self._keep(time.time() - self._started)

    def _keep(self, now_s: float) -> None:
        """Remember the picture of this moment, to be compared with the truth; of a long run a few, evenly spread."""
        detector = self._proxies["detector"]
        try:
            series, passes, recording = detector.series, detector.passes, detector.recording
            options = self._options()
        except tango.DevFailed:  # the detector restarts: then a later picture
            return
        if self.shown().series != series:  # of a series that is over: nobody tells any more which frames those were
            return
        self._next_s = now_s + self._every_s
        if self.checkpoints and self.checkpoints[-1].picture is self.shown():
            return
        self.checkpoints.append(Checkpoint(round(now_s, 2), self.shown(), np.asarray(passes), recording, options))
        if len(self.checkpoints) > CHECKPOINTS:
            del self.checkpoints[1::2]
            self._every_s *= 2

    def _options(self) -> Options:
        """Those of the reconstruction as it is now; frames that the detector shifts have their axis elsewhere."""
        reconstructor: Any = self._proxies["reconstructor"]
        detector: Any = self._proxies["detector"]
        names = "filter", "center_offset_px", "full_turn", "edge_extend"
        chosen, offset, full_turn, extend = (x.value for x in reconstructor.read_attributes(list(names)))
        shift = detector.read_attribute("center_shift_px").value
        labels = reconstructor.get_attribute_config("filter").enum_labels
        return Options(labels[chosen].lower().replace("_", "-"), offset - shift, full_turn, extend)

    def shown(self) -> Denoised:
        """The slice whose pictures are kept: xy if there is one. There must have been a slice."""
        return self.last.get("xy") or next(iter(self.last.values()))

    def trend(self) -> str:
        """An arrow for the last ten values: accuracy falls while the network learns."""
        recent = [value for _, value in self.accuracy[-10:]]
        if len(recent) < 4:
            return ""
        change = float(np.mean(recent[len(recent) // 2 :]) - np.mean(recent[: len(recent) // 2]))
        return "→" if abs(change) < 0.005 else "↘ better" if change < 0 else "↗ worse"

    def finished(self) -> bool:
        """True when the replay came to its end by itself."""
        return str(self.values["detector"]["Status"]).startswith("replayed")

    def _listen(self) -> None:
        while (message := self._inbox.get(timeout=0.0)) is not None:
            if isinstance(message, Denoised):
                self.latency_ms.append(1e3 * (self._inbox.received_at - message.timestamp_s))
                self.last[message.slice] = message

    def close(self) -> None:
        self._listen()
        self._subscriber.close()


def machine() -> dict[str, Any]:
    """Where a figure was measured."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(
            (
                line.split(":", 1)[1].strip()
                for line in cpuinfo.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def write_report(path: Path, recorder: Recorder, settings: dict[str, Any], judged: Judged | None = None) -> None:
    """Write the JSON of a run, and PNGs of the last slice beside it; `judged`: with what a ground truth says of it."""
    detector, reconstructor = recorder.values["detector"], recorder.values["reconstructor"]
    latency = recorder.latency_ms
    percentiles = {f"p{p}": round(float(np.percentile(latency, p)), 1) if latency else None for p in (50, 95, 99)}
    content = {
        "machine": machine(),
        "settings": settings,
        "frames": {
            "sent": detector["frames_sent"],
            "received": reconstructor["frames_received"],
            "lost": reconstructor["frames_lost"],
            "held_back": detector["frames_held_back"],
        },
        "slices": {
            "reconstructed": reconstructor["slices_reconstructed"],
            "denoised": recorder.values["denoiser"]["slices_denoised"],
        },
        "rates": {
            key: round(float(np.median(values)), 2) if values else None for key, values in recorder.rates.items()
        },
        "latency_ms": percentiles,
        "lateness_ms": {p: _rounded(detector[f"lateness_{p}_ms"]) for p in ("p50", "p99")},
        "jitter_ms": _rounded(detector["jitter_ms"]),
        "accuracy": recorder.accuracy,
        "patch_accuracy": recorder.patch_accuracy,
        "events": recorder.events,
        "truth": [] if judged is None else judged.curve,
        "images": write_pictures(path, recorder, judged),
    }
    path.write_text(json.dumps(content, indent=1, default=_plain) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 2)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def write_pictures(path: Path, recorder: Recorder, judged: Judged | None) -> dict[str, str]:
    """PNGs of the last slice (`Recorder.shown`): raw, denoised and the truth on one grey scale, and the difference."""
    if not recorder.last:
        return {}
    message = recorder.shown()
    middle = message.data.shape[1] // 2
    denoised, raw = message.data[0, middle], message.data[1, middle]
    references = {} if judged is None or judged.last is None else judged.last._asdict()
    low, high = np.percentile(references.get("object", raw), (0.5, 99.5))
    spread = float(np.percentile(np.abs(raw - denoised), 99.5)) or 1.0
    pictures = {
        "raw": (raw, low, high),
        "denoised": (denoised, low, high),
        "difference": (raw - denoised, -spread, spread),
        **{name: (reference, low, high) for name, reference in references.items()},
    }
    written = {}
    for name, (image, bottom, top) in pictures.items():
        grey = np.clip((image - bottom) / max(top - bottom, 1e-12), 0, 1)
        file = path.with_name(f"{path.stem}_{name}.png")
        Picture.fromarray((255 * grey).astype(np.uint8)).save(file)
        written[name] = str(file.absolute())
    return written
