"""The signals of the simulated detector."""

from typing import Any

from sim.faults import KINDS
from tango_jit.signals import Kind, Signal, setting

SETTINGS = (
    Signal(
        "recording",
        "str",
        "Path of the recording: an NXtomo or Data Exchange HDF5 file, or a FleX-ray folder.",
        default="",
        writable=True,
        memorized=False,  # kept by the device: a file that is gone must not make the attribute unreadable
    ),
    setting(
        "frame_period_s",
        "float",
        "Virtual time from frame to frame; 0: as fast as the reconstructor takes them.",
        unit="s",
        minimum=0,
        maximum=3600,
        default=0.024,
        format="%7.4f",
    ),
    setting("loop", "bool", "Begin again after the last frame; angles and frame numbers go on.", default=False),
    Signal(
        "position",
        "int",
        "Index in the recording of the last frame; write it to go there, while frames are sent, paused or before "
        "Start. Frame numbers go on, and every window downstream fills anew.",
        minimum=0,
        maximum=2**31,
        default=0,
        writable=True,
        memorized=False,
    ),
    setting(
        "first_frame", "int", "Where the replay begins: index in the recording.", minimum=0, maximum=2**31, default=0
    ),
    setting(
        "last_frame",
        "int",
        "Last frame of the replay: index in the recording; -1: the last one.",
        minimum=-1,
        maximum=2**31,
        default=-1,
    ),
)


def _disturbance(name: str, kind: Kind, description: str, default: float, **more: Any) -> Signal:
    """A setting that is forgotten with the device: nobody wants a fault of last week."""
    fields: dict[str, Any] = {"level": "expert", "writable": True, "memorized": False, "default": default}
    return Signal(name, kind, description, **fields, **more)


def _fault(kind: str, what: str) -> Signal:
    return _disturbance(f"fault_{kind}", "float", f"Part of the frames {what}", 0.0, minimum=0, maximum=1)


DISTURBANCES = (
    _disturbance(
        "dose",
        "float",
        "Part of the recorded dose: frames are thinned to its statistics, and a flat to match is sent.",
        1.0,
        minimum=0.001,
        maximum=1,
    ),
    _disturbance(
        "counts_per_photon",
        "float",
        "Counts that one photon makes in the recording; sets the noise of a lower dose.",
        1.0,
        minimum=1e-6,
        maximum=1e6,
    ),
    _disturbance(
        "center_shift_px",
        "int",
        "Whole columns by which frames are shifted, as if the rotation axis had moved; edge columns repeat.",
        0,
        unit="px",
        minimum=-65536,
        maximum=65536,
    ),
    _fault("drop", "that are lost on the way."),
    _fault("duplicate", "that are sent twice."),
    _fault("reorder", "that are sent after the next one."),
    _fault("corrupt", "whose payload is shorter than their header says: receivers refuse the message."),
    _fault("garble", "that show nothing: saturated all over, or noise."),
    _fault("late", "that are sent after the ten that follow."),
    _disturbance("fault_seed", "int", "Seed of faults and of the noise of a lower dose.", 0, minimum=0, maximum=2**31),
)
READINGS = (
    Signal(
        "frames_sent", "int", "Frames of this series that were made: handed over, or lost by faults that were wanted."
    ),
    Signal("frames_total", "int", "The same over all series since the device began."),
    Signal("recording_frames", "int", "Frames in the recording: `position` is below."),
    Signal(
        "passes",
        "int",
        "Which frame is which of the recording: rows of first frame number and index; from there both count up "
        "together until the next row. The newest 500 rows.",
        shape=(500, 2),
    ),
    Signal(
        "frame_number", "int", "Number of the last frame; its event tells that a new image can be read.", default=-1
    ),
    Signal(
        "rotation",
        "float",
        "Turns since the start of the series, without the leaps to a new position.",
        format="%8.2f",
        default=0.0,
    ),
    Signal("turns_total", "float", "The same over all series since the device began.", format="%8.2f", default=0.0),
    Signal(
        "progress",
        "float",
        "How far the replay is between its first and last frame.",
        unit="%",
        format="%5.1f",
        default=0.0,
    ),
    Signal("actual_rate_hz", "float", "Frames per second as sent.", unit="Hz", format="%6.1f", kept_an_hour=True),
    Signal(
        "lateness_ms",
        "float",
        "How much later than planned the last frame went out: the reconstructor holds back.",
        unit="ms",
        warning=(None, 1_000),
        alarm=(None, 10_000),
        format="%7.1f",
        kept_an_hour=True,
    ),
    Signal("lateness_p50_ms", "float", "Median lateness of the last 1000 frames.", unit="ms", format="%7.2f"),
    Signal("lateness_p99_ms", "float", "99 % of the last 1000 frames were no later.", unit="ms", format="%7.2f"),
    Signal(
        "jitter_ms",
        "float",
        "Standard deviation of the last 1000 intervals between frames from their period.",
        unit="ms",
        format="%7.2f",
    ),
    Signal("frames_held_back", "int", "Frames that had to wait because nobody took them in time."),
    Signal("series", "str", "Name of the running series."),
    Signal("image", "float", "The last frame.", shape=(4096, 4096), dtype="f4"),
    Signal("raw_endpoint", "str", "Where the reconstructor pulls the frames.", level="expert"),
    Signal(
        "monitor_endpoint", "str", "Where others may listen: the same messages, but frames may drop.", level="expert"
    ),
)
INJECTED = (
    *(
        Signal(f"injected_{kind}", "int", f"Frames of this series that `fault_{kind}` has struck.", level="expert")
        for kind in KINDS
    ),
    Signal("injected_stall", "int", "Frames of this series that were lost in a `Stall`.", level="expert"),
)

SIGNALS = (*SETTINGS, *DISTURBANCES, *READINGS, *INJECTED)
