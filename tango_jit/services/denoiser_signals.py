"""The signals of the denoiser, those of its slices apart (see slices.py)."""

from collections.abc import Mapping

from tango_jit.learn.denoiser import Mode
from tango_jit.learn.tasks import TASKS
from tango_jit.signals import Signal, history, setting

MODES: Mapping[str, Mode] = {"AUTO": "trained", "HALVES": "halves", "FULL": "full"}

SETTINGS = (
    setting("enabled", "bool", "Denoise; otherwise slices pass as reconstructed.", default=True),
    setting(
        "mode",
        "enum",
        "AUTO: what the network was trained for; HALVES: the mean of both denoised halves; FULL: the denoised whole.",
        choices=tuple(MODES),
    ),
    setting(
        "frozen",
        "bool",
        "Keep the present weights (before any came: the first ones); the newest wait. Not remembered over a restart: "
        "those weights are gone then.",
        default=False,
        memorized=False,
    ),
    setting(
        "guard",
        "bool",
        "Show of the network's change what is surely better than the slice as reconstructed, and otherwise that slice "
        "(see quality, share and guard_active); of tasks other than DENOISE all or nothing. Without it: whatever the "
        "network makes of it.",
        default=True,
    ),
    setting(
        "uncertainty",
        "bool",
        "Make the maps uncertainty_<n> as well: what each pixel may be wrong by. Takes a second pass of the network.",
        default=False,
    ),
    setting(
        "compared_version",
        "int",
        "Show what this version of the weights, one of versions, makes of the same slices as well, however many newer "
        "ones come: compared_<n>, and its quality in comparison_<n>. 0: none.",
        default=0,
        minimum=0,
        maximum=2**31,
        memorized=False,
    ),
)
READINGS = (
    Signal(
        "task", "enum", "What the weights in use make of a slice; see shows.", choices=tuple(TASKS), default="DENOISE"
    ),
    Signal("shows", "str", "What the newest picture denoised_<n> is, with its unit; of each shows_<n>."),
    Signal(
        "versions", "int", "The versions of the weights that are remembered, oldest first.", shape=(16,), level="expert"
    ),
    Signal(
        "quality",
        "float",
        "By so much at least the worst of the displayed slices has less noise than as reconstructed, 95 times of 100 "
        "where the two images that tell it differ by noise alone; "
        "0: it is shown as reconstructed. Streaks of too few views are no noise. Of DENOISE alone.",
        unit="dB",
        format="%5.1f",
    ),
    Signal(
        "accuracy",
        "float",
        "Accuracy of the network on the displayed slices (1: no better than without; DENOISE: 0.5 is perfect, below: "
        "streaks or motion); see evidence.",
        format="%6.4f",
        warning=(None, 1.0),
        kept_an_hour=True,
    ),
    Signal(
        "accuracy_band",
        "float",
        "The accuracy is right within so much, 95 times of 100.",
        format="%6.4f",
        level="expert",
        kept_an_hour=True,
    ),
    Signal(
        "share",
        "float",
        "Part of what the network changes that is shown, by power; bands of frequencies in which it is not better than "
        "the slice as reconstructed are left out.",
        unit="%",
        format="%5.1f",
        level="expert",
        kept_an_hour=True,
    ),
    Signal(
        "streaks",
        "float",
        "Part of what the halves differ by that is no noise but streaks of too few views; known where two turns are.",
        unit="%",
        format="%5.1f",
        level="expert",
    ),
    Signal(
        "accuracy_ratio", "float", "The same as ratio of the means over the slices.", format="%6.4f", level="expert"
    ),
    Signal(
        "evidence",
        "enum",
        "What the accuracy was measured on: TURNS: the slice of a turn before, where nothing moved; HALVES: the halves "
        "of the present one.",
        choices=("NONE", "HALVES", "TURNS"),
    ),
    history("accuracy_history", "accuracy over time: s since the epoch, accuracy."),
    Signal("weights_version", "int", "Version of the weights in use; 0: none yet."),
    Signal("weights_age_s", "float", "Time since these weights arrived.", unit="s", format="%7.1f"),
    Signal(
        "latency_ms",
        "float",
        "From the arrival of the last needed frame (or the move of a slice) to the published denoised slice.",
        unit="ms",
        warning=(None, 2_000),
        alarm=(None, 10_000),
        format="%6.1f",
        kept_an_hour=True,
    ),
    Signal("inference_ms", "float", "Time of the network for one slice.", unit="ms", format="%6.1f"),
    Signal(
        "rate_hz", "float", "Denoised slices per second, all together.", unit="Hz", format="%6.2f", kept_an_hour=True
    ),
    Signal("slices_denoised", "int", "Slices published since the start."),
    Signal("slices_dropped", "int", "Slices that were passed over because newer ones had come.", level="expert"),
    Signal(
        "guard_active",
        "bool",
        "The guard shows the slice as reconstructed (SEGMENT: cut at its threshold), not what the network makes.",
        default=False,
    ),
    Signal("generation", "int", "Generation of the last slice.", level="expert"),
    Signal("backend", "str", "Where the network runs; where that is not as asked for, the status says why."),
    Signal(
        "precision",
        "str",
        "Arithmetic of the network: bfloat16, or float32 where that is not at hand or its rounding would be more than "
        "1 % of what the network removes (slices with little noise; float32 takes two to three times as long).",
        level="expert",
    ),
    Signal("memory_mb", "float", "Resident memory of this server.", unit="MB", format="%7.0f", level="expert"),
    Signal(
        "slice_names",
        "str",
        "The slices on display, apart from each other by spaces: their attributes end in these names.",
        level="expert",
    ),
    Signal("denoised_endpoint", "str", "Where the denoised slices are published.", level="expert"),
)

SIGNALS = (*SETTINGS, *READINGS)
