"""The signals of the reconstructor, those of its slices apart (see slices.py)."""

from tango_jit.recon.center import METHODS, TRUSTED
from tango_jit.recon.preprocess import FILTERS
from tango_jit.services import preview_signals
from tango_jit.signals import Signal, setting

CENTER_METHODS = tuple(method.upper() for method in METHODS)
FILTER_NAMES = tuple(f.upper().replace("-", "_") for f in FILTERS)

SETTINGS = (
    setting(
        "update_every",
        "int",
        "New projections between two updates of the slices.",
        minimum=1,
        maximum=10_000,
        default=60,
    ),
    setting(
        "filter",
        "enum",
        "Apodisation of the ramp filter. A change fills the window anew.",
        choices=FILTER_NAMES,
        default=FILTER_NAMES[0],
    ),
    setting(
        "center_offset_px",
        "float",
        "Added to the scan's centre of rotation. A change fills the window anew.",
        unit="px",
        minimum=-4096,
        maximum=4096,
        default=0.0,
        format="%8.3f",
    ),
    setting(
        "center_method",
        "enum",
        "How FindCenter searches: by the sharpness of a slice, by opposite views, or both (AUTO).",
        choices=CENTER_METHODS,
        default=CENTER_METHODS[0],
        level="expert",
    ),
    setting(
        "full_turn", "bool", "Parallel beam: use a window of 360 instead of 180 degrees.", default=False, level="expert"
    ),
)
SETTINGS += (
    setting(
        "edge_extend",
        "bool",
        "Continue views smoothly beyond the detector: for objects that are wider than it. Fills the window anew.",
        default=False,
        level="expert",
    ),
    setting(
        "saturation_counts",
        "float",
        "Counts at which a pixel is saturated; 0: the top of an integer type. A change fills the window anew.",
        minimum=0,
        maximum=2**32,
        default=0.0,
        level="expert",
    ),
)
CORRECTIONS = (
    setting(
        "zinger_excess",
        "float",
        "Pixels of a single frame that are brighter than their neighbours, and than in the frame before, by this part "
        "of the transmission there are replaced; 0: none are. 0.2 is usual. Fills the window anew.",
        minimum=0,
        maximum=1000,
        default=0.0,
        format="%6.2f",
    ),
    setting(
        "ring_turns",
        "float",
        "Turns over which the bias of each pixel is learned, to be subtracted against rings; 0: off. Few follow a "
        "drift, many see weaker rings. Fills the window anew.",
        minimum=0,
        maximum=10_000,
        default=0.0,
        format="%6.1f",
    ),
    setting(
        "air_region",
        "str",
        "Where only air is in the beam, in pixels: first and last column, first and last row, as '0 20 100 600'. Every "
        "frame is scaled to a transmission of 1 there, against flicker; empty: off. Fills the window anew.",
        default="",
    ),
    setting(
        "energy_kev",
        "float",
        "Photon energy, for phase retrieval. Fills the window anew.",
        unit="keV",
        minimum=0,
        maximum=10_000,
        default=0.0,
        level="expert",
        format="%8.3f",
    ),
    setting(
        "propagation_mm",
        "float",
        "Distance from sample to detector, for phase retrieval; 0: that of the scan (cone beam). Fills the window "
        "anew.",
        unit="mm",
        minimum=0,
        maximum=1e6,
        default=0.0,
        level="expert",
        format="%8.2f",
    ),
    setting(
        "delta_beta",
        "float",
        "Phase retrieval (Paganin) for a sample of one material of this delta/beta; 0: off. Wants energy_kev. "
        "Fills the window anew.",
        minimum=0,
        maximum=1e6,
        default=0.0,
        level="expert",
        format="%8.1f",
    ),
)
SETTINGS += CORRECTIONS
COUNTS = (
    Signal("frames_received", "int", "Frames of this series that arrived, without repeats."),
    Signal(
        "frames_lost", "int", "Frames of this series that are missing between those that arrived.", warning=(None, 1)
    ),
    Signal("frames_late", "int", "Frames that arrived after a later one.", level="expert"),
    Signal("frames_duplicate", "int", "Frames that arrived again and were ignored.", level="expert"),
    Signal(
        "frames_refused",
        "int",
        "Frames without use: of an unknown series or a wrong size, without beam, saturated, older than the window.",
        warning=(None, 1),
    ),
    Signal(
        "pixels_replaced_percent",
        "float",
        "Part of the newest frame that is dead, saturated or no number: what is beside such pixels stands in for them.",
        unit="%",
        format="%5.2f",
        warning=(None, 5),
    ),
    Signal("slices_reconstructed", "int", "Slices published since the start."),
    Signal(
        "depth",
        "int",
        "Planes of the published slices: each slice and its neighbours, as many as a receiver (the denoiser) wishes.",
        default=1,
    ),
    Signal("generation", "int", "Counts changes of slices, filter, centre, flat field and series.", level="expert"),
    Signal(
        "shown_generation",
        "int",
        "Generation of the pictures; below `generation` they still show what was before the last change.",
        level="expert",
        default=-1,
    ),
)
FIGURES = (
    Signal(
        "fill",
        "float",
        "How much of the angle span of a window is there.",
        format="%5.2f",
        default=0.0,
        kept_an_hour=True,
    ),
    Signal("frame_rate_hz", "float", "Frames that arrive per second.", unit="Hz", format="%6.1f", kept_an_hour=True),
    Signal("rate_hz", "float", "Slices per second, all together.", unit="Hz", format="%6.2f"),
    Signal(
        "latency_ms",
        "float",
        "From the arrival of the last needed frame (or the move of a slice) to the published slices.",
        unit="ms",
        warning=(None, 2_000),
        alarm=(None, 10_000),
        format="%6.1f",
        kept_an_hour=True,
    ),
    Signal("reconstruction_ms", "float", "Backprojection of all slices in one update.", unit="ms", format="%6.1f"),
    Signal("memory_mb", "float", "Resident memory of this server.", unit="MB", format="%7.0f", level="expert"),
    Signal("backend", "str", "The backprojector in use; where it is not `backend_wanted`, the status says why."),
    Signal("backend_wanted", "str", "The backprojector that was asked for: the property Backend.", level="expert"),
    Signal("series", "str", "Name of the running series."),
    Signal("dark_age_s", "float", "Since the dark field of this series came.", unit="s", format="%7.0f"),
    Signal("flat_age_s", "float", "Since the flat field of this series came.", unit="s", format="%7.0f"),
    Signal(
        "center_found_px", "float", "What FindCenter found: a value for center_offset_px.", unit="px", format="%8.3f"
    ),
    Signal(
        "center_confidence",
        "float",
        "How sure FindCenter is, 0 to 1: do halves of the data, and both methods, agree. Below 0.5 it is a guess.",
        warning=(TRUSTED, None),
        format="%5.2f",
    ),
    Signal("progress", "float", "Progress of FindCenter.", unit="%", format="%5.1f", default=0.0),
    Signal("slices", "str", "The slices that were placed by hand, as JSON.", level="expert"),
    Signal("filtered_endpoint", "str", "Where the filtered projections are published.", level="expert"),
    Signal("slices_endpoint", "str", "Where the slices are published.", level="expert"),
)

SIGNALS = (*SETTINGS, *preview_signals.SETTINGS, *COUNTS, *FIGURES, *preview_signals.FIGURES)
