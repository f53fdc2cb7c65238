"""The signals of the recorder."""

from tango_jit.signals import Signal, setting

SETTINGS = (
    setting(
        "folder",
        "str",
        "Where files are written, on the host of this server: a path from the root, of a folder that exists.",
        default="",
    ),
    setting(
        "file_name",
        "str",
        "What file names begin with: date and time of the Record follow. Letters, digits, . _ and -.",
        default="run",
        label="File name",
    ),
    setting("title", "str", "Title of the run, for people.", default=""),
    setting(
        "every_s",
        "float",
        "Shortest time between two kept pictures of a slice; 0: each is kept.",
        unit="s",
        minimum=0,
        maximum=3600,
        default=0.0,
    ),
    setting("keep_denoised", "bool", "Keep denoised pictures.", default=True),
    setting("keep_raw", "bool", "Keep pictures as they were reconstructed.", default=True),
    setting(
        "keep_weights",
        "bool",
        "Keep the weights of kept pictures themselves, so that a picture can be made again; their digests always are.",
        default=True,
    ),
    setting(
        "keep_projections",
        "bool",
        "Keep the projections as well, from Record on, as NXtomo in a file beside the run's.",
        default=False,
    ),
    setting(
        "pre_trigger_s",
        "float",
        "Pictures of so much time before a Record belong to it; they wait in memory.",
        unit="s",
        minimum=0,
        maximum=3600,
        default=10.0,
    ),
    setting(
        "reserve_mb",
        "float",
        "So much of the disk stays free: below that nothing is written until there is more.",
        unit="MB",
        minimum=0,
        maximum=1e9,
        default=1000.0,
        level="expert",
    ),
)
READINGS = (
    Signal("recording", "bool", "True while a run is being recorded.", default=False),
    Signal("file", "str", "The file of the present or last run; its parts are numbered."),
    Signal("projections_file", "str", "The file of its projections; empty: none are kept."),
    Signal("pictures_recorded", "int", "Pictures of this run that are in its files."),
    Signal(
        "pictures_lost",
        "int",
        "Pictures of this run that are not: the disk was full or too slow, or they were of a slice that had changed.",
        warning=(None, 1),
    ),
    Signal("frames_recorded", "int", "Projections of this run that are in its file."),
    Signal(
        "frames_lost",
        "int",
        "Projections of this run that are not: dropped on the way, or the disk was full or too slow.",
        warning=(None, 1),
    ),
    Signal("pictures_waiting", "int", "Pictures in memory, for a Record."),
    Signal("waiting_s", "float", "From the first to the last of them.", unit="s", format="%6.1f", default=0.0),
    Signal(
        "written_mb", "float", "Images, weights and projections of this run.", unit="MB", format="%8.1f", default=0.0
    ),
    Signal("free_mb", "float", "Free space on the disk of the folder.", unit="MB", format="%9.0f"),
    Signal("write_ms", "float", "Time to write the last picture.", unit="ms", format="%6.1f", level="expert"),
    Signal(
        "parts",
        "int",
        "Files of this run: another one begins when a slice comes or changes its shape, and after a full disk.",
    ),
    Signal("memory_mb", "float", "Resident memory of this server.", unit="MB", format="%7.0f", level="expert"),
)
SIGNALS = (*SETTINGS, *READINGS)
