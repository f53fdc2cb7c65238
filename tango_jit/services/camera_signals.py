"""The signals of a camera of another control system."""

from typing import get_args

from tango_jit.cameras.angles import Scheme
from tango_jit.signals import Signal, setting

SCANNER = (
    setting("beam", "enum", "Form of the beam.", choices=("PARALLEL", "CONE"), default="PARALLEL"),
    setting(
        "pixel_mm",
        "float",
        "Pitch of the sensor's pixels, without binning.",
        unit="mm",
        minimum=1e-6,
        maximum=100,
        default=0.01,
    ),
    setting(
        "source_axis_mm",
        "float",
        "CONE: from the source to the rotation axis.",
        unit="mm",
        minimum=1e-3,
        maximum=1e6,
        default=1000.0,
    ),
    setting(
        "axis_detector_mm",
        "float",
        "CONE: from the rotation axis to the sensor.",
        unit="mm",
        minimum=0,
        maximum=1e6,
        default=0.0,
    ),
    setting(
        "axis_column_px",
        "float",
        "Column of the sensor where the rotation axis is seen, 0-based, without binning; -1: the middle of the frames.",
        unit="px",
        minimum=-1,
        maximum=65536,
        default=-1.0,
        format="%8.2f",
    ),
    setting(
        "mid_row_px",
        "float",
        "Row of the sensor where the plane z = 0 is seen, 0-based, without binning; -1: the middle of the frames.",
        unit="px",
        minimum=-1,
        maximum=65536,
        default=-1.0,
        format="%8.2f",
    ),
    setting("rows", "enum", "UP: row 0 is the lowest. DOWN: it is the highest.", choices=("UP", "DOWN"), default="UP"),
    setting(
        "rotation_sense",
        "enum",
        "In which sense angles count, seen from above.",
        choices=("COUNTERCLOCKWISE", "CLOCKWISE"),
        default="COUNTERCLOCKWISE",
    ),
)
SCAN = (
    setting(
        "angle_source",
        "enum",
        "Where angles come from: COMPUTED from the frame's number, TABLE of the scan, ATTRIBUTE of the frame, POSITION "
        "of the stage at the frame's time.",
        choices=get_args(Scheme),
        default="COMPUTED",
    ),
    setting(
        "start_angle_deg",
        "float",
        "COMPUTED: angle of the first projection.",
        unit="deg",
        minimum=-1e9,
        maximum=1e9,
        default=0.0,
    ),
    setting(
        "angle_step_deg",
        "float",
        "COMPUTED: angle from frame to frame.",
        unit="deg",
        minimum=-360,
        maximum=360,
        default=1.0,
    ),
    setting("angle_attribute", "str", "ATTRIBUTE: its name. It tells degrees.", default=""),
    setting(
        "angle_period_deg",
        "float",
        "ATTRIBUTE, POSITION: after so much the stage begins again at 0; 0: it counts through.",
        unit="deg",
        minimum=0,
        maximum=360_000,
        default=0.0,
    ),
    setting(
        "first_projection",
        "int",
        "COMPUTED, TABLE: the camera's number of the frame with the first angle; -1: what the scan says, or the first "
        "frame of a series.",
        minimum=-1,
        maximum=2**31,
        default=-1,
    ),
    setting(
        "frame_type_attribute",
        "str",
        "Attribute of a frame that tells whether it is a projection, flat or dark; empty: none does.",
        default="",
    ),
    setting("linear", "bool", "-log of the transmission is applied already: no flats are needed.", default=False),
    setting("full_turn", "bool", "Windows of a parallel beam span 360 instead of 180 degrees.", default=False),
    setting("scan_name", "str", "What the sample is called.", default=""),
)
READINGS = (
    Signal("frames_received", "int", "Different frames of this series that came, darks and flats among them."),
    Signal("frames_lost", "int", "Frames between the first and the newest that did not come."),
    Signal("frames_late", "int", "Frames that came after a later one."),
    Signal("frames_duplicate", "int", "Frames that came twice; the repeats are left out."),
    Signal("frames_refused", "int", "Frames since Start that could not be used: no image, no angle."),
    Signal("frames_dropped", "int", "Frames that came since Start and found the queue full."),
    Signal("frames_untaken", "int", "Frames since Start that no reconstructor took in time."),
    Signal("frames_waiting", "int", "Frames that wait for their angle, or for what tells what they show."),
    Signal("frames_sent", "int", "Frames of this series that were sent on."),
    Signal(
        "frame_number", "int", "Number of the last frame; its event tells that a new image can be read.", default=-1
    ),
    Signal("angle_deg", "float", "Angle of the last frame, counted through.", unit="deg", format="%10.3f"),
    Signal("actual_rate_hz", "float", "Frames per second as sent.", unit="Hz", format="%6.1f", kept_an_hour=True),
    Signal("darks", "int", "The dark is the mean of so many frames; 0: there is none."),
    Signal("flats", "int", "The flat is the mean of so many frames; 0: there is none."),
    Signal("series", "str", "Name of the running series."),
    Signal("image", "float", "The last frame.", shape=(4096, 4096), dtype="f4"),
    Signal("raw_endpoint", "str", "Where the reconstructor pulls the frames.", level="expert"),
    Signal(
        "monitor_endpoint", "str", "Where others may listen: the same messages, but frames may drop.", level="expert"
    ),
)
SIGNALS = (*SCANNER, *SCAN, *READINGS)
