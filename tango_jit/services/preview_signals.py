"""The signals of the preview volume."""

from tango_jit.signals import Signal, setting

LARGEST = 256  # voxels a side

SETTINGS = (
    setting(
        "preview_every_s",
        "float",
        "From one preview volume to the next; the first comes with the first full window. 0: only by MakePreview.",
        unit="s",
        minimum=0,
        maximum=86_400,
        default=60.0,
        format="%6.1f",
    ),
    setting(
        "preview_size",
        "int",
        "Voxels a side of the preview volume.",
        minimum=16,
        maximum=LARGEST,
        default=128,
        level="expert",
    ),
)
FIGURES = (
    Signal(
        "preview",
        "float",
        "The field of view as a coarse volume, attenuation: its slices below each other, the top of the object first. "
        "Rows of the picture: slices times rows.",
        unit="1/mm",
        shape=(LARGEST * LARGEST, LARGEST),
        dtype="f4",
    ),
    Signal(
        "preview_geometry",
        "float",
        "Of its first slice: corner (3), edge along columns (3), edge along rows (3); step to the next one (3); in mm.",
        unit="mm",
        shape=(12,),
    ),
    Signal(
        "preview_frame_number",
        "int",
        "Number of the newest frame in the preview; its event tells that a new one can be read.",
        default=-1,
    ),
    Signal("preview_progress", "float", "Of the preview that is being made.", unit="%", format="%5.1f", default=0.0),
    Signal(
        "preview_ms",
        "float",
        "Work that the last preview took, in parts.",
        unit="ms",
        format="%6.1f",
        level="expert",
    ),
)
