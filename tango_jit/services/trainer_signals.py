"""The signals of the trainer."""

from typing import Any

from tango_jit.learn.patches import SAMPLINGS
from tango_jit.learn.tasks import TASKS
from tango_jit.learn.unet import PRESETS, TARGETS
from tango_jit.services.pairs import SPLITS
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
    field(
        "task",
        "enum",
        f"What the network learns to show. {'; '.join(f'{name}: {task.shows}' for name, task in TASKS.items())}. Needs "
        "ResetNetwork; a preset sets DENOISE.",
        choices=tuple(TASKS),
        default="DENOISE",
    ),
    field("features", "int", "Feature maps C of the first level; needs ResetNetwork.", minimum=1, maximum=64),
    field(
        "depth",
        "int",
        "Neighbouring slices Z that the network sees, a pixel apart: an odd number. The reconstructor then makes so "
        "many of each. Needs ResetNetwork.",
        minimum=1,
        maximum=63,
    ),
    field(
        "depth_auto",
        "bool",
        "The depth follows the scan: 3 slices for a guided network, 1 where the detector has a single row, or is so "
        "wide that this computer could not make so many about once a second. Writing depth ends it.",
        default=True,
    ),
    field(
        "frames",
        "int",
        "Points in time T that the network sees of each slice, instead of its neighbours: an odd number, their turns "
        "within two. Needs ResetNetwork.",
        minimum=1,
        maximum=63,
    ),
    field(
        "frame_interval",
        "int",
        "Projections between those points in time. Needs ResetNetwork.",
        minimum=1,
        maximum=10_000,
    ),
    field(
        "target",
        "enum",
        "Which of those points in time is shown: the MIDDLE one, which lags behind, or the LAST. Needs ResetNetwork.",
        choices=tuple(name.upper() for name in TARGETS),
    ),
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
    field(
        "buffer_auto",
        "bool",
        "The size of the buffer follows the stream: fewer pairs where old ones no longer say what new ones do, more "
        "where the network knows them by heart. Writing buffer_size ends it.",
        default=False,
    ),
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
    setting(
        "split",
        "enum",
        "What is predicted from what. TURNS: a whole slice from that of the turn before, where nothing moved; HALVES: "
        "the odd from the even views of one turn; AUTO: TURNS, unless nearly everything moves.",
        choices=SPLITS,
        level="expert",
    ),
    Signal(
        "region",
        "float",
        "Box to sample in: x, y, z from, x, y, z to; empty: the field of view.",
        unit="mm",
        shape=(6,),
        writable=True,
    ),
    Signal(
        "container",
        "float",
        "Upright cylinder that the centres of patches lie in: x, y, radius, z from, z to; empty: none.",
        unit="mm",
        shape=(5,),
        writable=True,
    ),
    field(
        "container_auto",
        "bool",
        "The container is found in the newest projections, again and again. Writing container ends it.",
        default=False,
    ),
)
READINGS = (
    Signal("settings", "str", "Network, training, region and container as JSON.", level="expert"),
    Signal("container_found", "str", "What was last found as the container, or why there is none."),
    Signal(
        "patch_accuracy",
        "float",
        "Accuracy on new pairs before they are trained on (1: no better than without; DENOISE: 0.5 is perfect).",
        format="%6.4f",
        warning=(None, 1.0),
        kept_an_hour=True,
    ),
    Signal(
        "patch_accuracy_band",
        "float",
        "The accuracy is right within this much, 95 times of 100.",
        format="%6.4f",
        kept_an_hour=True,
    ),
    Signal("patch_accuracy_ratio", "float", "The same as ratio of the means.", format="%6.4f", level="expert"),
    history("accuracy_history", "patch_accuracy over time: s since the epoch, accuracy."),
    Signal("jumps", "int", "Changes of the experiment that nobody announced, found in the new pairs."),
    Signal("last_jump", "str", "What jumped last; empty: nothing has."),
    Signal(
        "network_from",
        "str",
        "What the present network began from: an untrained one, a file of the weights folder, one that was loaded, "
        "a version, an earlier regime.",
    ),
    Signal("resumed_from", "str", "The weights of the run before that training goes on from; empty: it began anew."),
    Signal("weights_folder", "str", "Where weights are kept; empty: nowhere.", level="expert"),
    Signal(
        "loss",
        "float",
        "Loss of the last steps; DENOISE: mean squared error in units of the scale.",
        format="%8.5f",
        kept_an_hour=True,
    ),
    Signal(
        "steps", "int", "Training steps since the network was reset, loaded, rolled back or moved to another device."
    ),
    Signal("steps_rejected", "int", "Steps undone because they were not finite.", level="expert", warning=(None, 1)),
    Signal("steps_per_s", "float", "Training steps per second.", unit="Hz", format="%6.1f", kept_an_hour=True),
    Signal("samples_per_s", "float", "New pairs per second.", unit="Hz", format="%6.1f", kept_an_hour=True),
    Signal("reuse", "float", "How often a pair is drawn on average.", format="%5.1f"),
    Signal("buffer_fill", "float", "How much of the buffer is used.", format="%5.2f", default=0.0, kept_an_hour=True),
    Signal("split_used", "enum", "The split that the present pairs come from.", choices=SPLITS[1:], level="expert"),
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
