"""The signals of the simulated detector."""

from tango_jit.signals import Signal, setting

SETTINGS = (
    Signal(
        "recording",
        "str",
        "Path of the recording (NXtomo or Data Exchange HDF5).",
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
READINGS = (
    Signal("frames_sent", "int", "Frames of this series that were handed over."),
    Signal(
        "frame_number", "int", "Number of the last frame; its event tells that a new image can be read.", default=-1
    ),
    Signal("rotation", "float", "Turns since the start of the series.", format="%8.2f", default=0.0),
    Signal("progress", "float", "Part of the recording that was sent.", unit="%", format="%5.1f", default=0.0),
    Signal("actual_rate_hz", "float", "Frames per second as sent.", unit="Hz", format="%6.1f"),
    Signal(
        "lateness_ms",
        "float",
        "How much later than planned the last frame went out: the reconstructor holds back.",
        unit="ms",
        warning=(None, 1_000),
        alarm=(None, 10_000),
        format="%7.1f",
    ),
    Signal("frames_held_back", "int", "Frames that had to wait because nobody took them in time."),
    Signal("series", "str", "Name of the running series."),
    Signal("image", "float", "The last frame.", shape=(4096, 4096), dtype="f4"),
    Signal("raw_endpoint", "str", "Where the reconstructor pulls the frames.", level="expert"),
    Signal(
        "monitor_endpoint", "str", "Where others may listen: the same messages, but frames may drop.", level="expert"
    ),
)

SIGNALS = (*SETTINGS, *READINGS)
