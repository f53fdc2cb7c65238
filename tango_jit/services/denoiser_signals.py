"""The signals of the denoiser, those of its slices apart (see slices.py)."""

from tango_jit.signals import Signal, history, setting

BEST_ACCURACY = 0.5  # of a perfect denoiser of independent noise; below it the halves differ by more than noise

SETTINGS = (
    setting("enabled", "bool", "Denoise; otherwise slices pass as reconstructed.", default=True),
    setting(
        "mode",
        "enum",
        "HALVES: the mean of both denoised halves; FULL: the denoised whole slice.",
        choices=("HALVES", "FULL"),
    ),
    setting(
        "frozen",
        "bool",
        "Keep the present weights; the newest wait. Not remembered over a restart: those weights are gone then.",
        default=False,
        memorized=False,
    ),
    setting(
        "guard",
        "bool",
        "Show the slice as reconstructed while the denoised one is not surely better (accuracy above 0.75).",
        default=True,
    ),
)
READINGS = (
    Signal(
        "accuracy",
        "float",
        "Accuracy on the halves of the displayed slices (1: no denoising, 0.5: perfect, below: streaks or motion).",
        format="%6.4f",
        warning=(None, 1.0),
    ),
    Signal(
        "accuracy_ratio", "float", "The same as ratio of the means over the slices.", format="%6.4f", level="expert"
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
    ),
    Signal("inference_ms", "float", "Time of the network for one slice.", unit="ms", format="%6.1f"),
    Signal("rate_hz", "float", "Denoised slices per second, all together.", unit="Hz", format="%6.2f"),
    Signal("slices_denoised", "int", "Slices published since the start."),
    Signal("slices_dropped", "int", "Slices that were passed over because newer ones had come.", level="expert"),
    Signal("guard_active", "bool", "The guard shows the reconstruction instead of the denoised slice.", default=False),
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
    Signal("denoised_endpoint", "str", "Where the denoised slices are published.", level="expert"),
)

SIGNALS = (*SETTINGS, *READINGS)
