"""The signals of the trainer."""

from typing import Any

from tango_jit.learn.patches import SAMPLINGS
from tango_jit.learn.unet import PRESETS
from tango_jit.signals import Kind, Signal, history, setting


def field(name: str, kind: Kind, description: str, **fields: Any) -> Signal:
    """A setting that `settings` remembers, all of them together: a preset sets many at once."""
    return setting(name, kind, description, memorized=False, **fields)


NETWORK = (
    field(
        "network",
        "enum",
        "Preset of network and training; CUSTOM once a field is edited. A preset sets the fields below.",
        choices=PRESETS,
        default="PRODUCT",
    ),
    field("features", "int", "Feature maps C of the first level; needs ResetNetwork.", minimum=1, maximum=64),
    field("depth", "int", "Neighbouring slices Z that the network sees; only 1 so far.", minimum=1, maximum=64),
    field("frames", "int", "Points in time T that the network sees; only 1 so far.", minimum=1, maximum=64),
    field("frame_interval", "int", "Projections between those points in time.", minimum=1, maximum=10_000),
)
TRAINING = (
    field("learning_rate", "float", "Step size of Adam.", minimum=1e-7, maximum=1.0, format="%9.6f"),
    field("batch_size", "int", "Pairs a step.", minimum=1, maximum=1024),
    field(
        "patch_size",
        "int",
        "Rows and columns of a patch; a change empties the buffer.",
        unit="px",
        minimum=8,
        maximum=512,
    ),
    field("buffer_size", "int", "Pairs kept: the newest ones.", minimum=1, maximum=100_000),
    setting(
        "reuse_wanted",
        "float",
        "How often a pair is to be drawn on average: decides how many new pairs are made between steps.",
        minimum=0.25,
        maximum=100,
        default=1.0,
        format="%5.2f",
        level="expert",
    ),
    setting(
        "publish_every_s",
        "float",
        "Time between two versions of the weights.",
        unit="s",
        minimum=0.05,
        maximum=3600,
        default=1.0,
    ),
    setting(
        "sampling",
        "enum",
        "Where patches lie: in the slices on display, anywhere in the region, or half and half.",
        choices=SAMPLINGS,
    ),
    Signal(
        "region",
        "float",
        "Box to sample in: x, y, z from, x, y, z to; empty: the field of view.",
        unit="mm",
        shape=(6,),
        writable=True,
    ),
)
READINGS = (
    Signal("settings", "str", "Network, training and region as JSON.", level="expert"),
    Signal(
        "patch_accuracy",
        "float",
        "Accuracy on new pairs before they are trained on (1: no denoising, 0.5: perfect).",
        format="%6.4f",
        warning=(None, 1.0),
    ),
    Signal("patch_accuracy_ratio", "float", "The same as ratio of the means.", format="%6.4f", level="expert"),
    history("accuracy_history", "patch_accuracy over time: s since the epoch, accuracy."),
    Signal("loss", "float", "Mean squared error of the last steps, in units of the scale.", format="%8.5f"),
    Signal(
        "steps", "int", "Training steps since the network was reset, loaded, rolled back or moved to another device."
    ),
    Signal("steps_rejected", "int", "Steps undone because they were not finite.", level="expert", warning=(None, 1)),
    Signal("steps_per_s", "float", "Training steps per second.", unit="Hz", format="%6.1f"),
    Signal("samples_per_s", "float", "New pairs per second.", unit="Hz", format="%6.1f"),
    Signal("reuse", "float", "How often a pair is drawn on average.", format="%5.1f"),
    Signal("buffer_fill", "float", "How much of the buffer is used.", format="%5.2f", default=0.0),
    Signal("weights_version", "int", "Version of the newest published weights."),
    Signal("parameters", "int", "Parameters of the network.", level="expert"),
    Signal("scale_per_mm", "float", "What samples are divided by.", unit="1/mm", format="%9.6f", level="expert"),
    Signal("fill", "float", "How much of the angle span of a window is there.", format="%5.2f", default=0.0),
    Signal("frames_received", "int", "Filtered frames of this series that arrived."),
    Signal("frames_lost", "int", "Filtered frames that are missing: dropped while the trainer was busy."),
    Signal("backend", "str", "Where patches are made and trained on; not as asked for: the status says why."),
    Signal("memory_mb", "float", "Resident memory of this server.", unit="MB", format="%7.0f", level="expert"),
    Signal("weights_endpoint", "str", "Where the weights are published.", level="expert"),
)

SIGNALS = (*NETWORK, *TRAINING, *READINGS)
