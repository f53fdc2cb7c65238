"""Where the messages of a server go: its terminal, Tango's logging streams and, if wanted, a file that rotates.

Messages are those of the standard library's `logging`. Each of the three has a thread of its own, so that a full
disk, a stuck terminal or a log viewer that hangs never holds up the data: messages are dropped then, and counted.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from logging.handlers import QueueHandler, RotatingFileHandler
from pathlib import Path
from typing import Any

import tango

MOST = 1000  # messages that wait for one of the three
ENDING_S = 2.0
COMPLAIN_EVERY_S = 60.0
TEXT = "%(asctime)s %(levelname)s %(device)s: %(message)s"
STREAMS = {10: "debug_stream", 20: "info_stream", 30: "warn_stream", 40: "error_stream", 50: "fatal_stream"}
_devices: dict[str, Any] = {}  # those of this process by name, the first one has what names no device


def configure(server: str, environment: Mapping[str, str], arguments: list[str]) -> None:
    """Send the messages of this process where the variables TANGO_JIT_LOG_... say; `server` is its name, for the file.

    With -v among `arguments` the terminal is Tango's alone. Raises ValueError for a variable that is not understood.
    """
    settings = {n.removeprefix("TANGO_JIT_LOG_"): v for n, v in environment.items() if n.startswith("TANGO_JIT_LOG_")}
    formatter = _formatter(_choice(settings, "FORMAT", ("text", "json")))
    level = _choice(settings, "LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR"))
    targets: list[logging.Handler] = [TangoStreams()]
    if not any(argument.startswith("-v") for argument in arguments):
        targets.append(logging.StreamHandler())
    size, kept = _number(settings, "MB", 10), _number(settings, "KEPT", 5)
    if folder := settings.get("DIR"):
        name = "_".join([server, *arguments[:1]])
        targets.append(LogFile(Path(folder).expanduser().absolute() / f"{name}.log", size << 20, kept))
    for target in targets[1:]:
        target.setFormatter(formatter)
    unnamed = "/".join([server, *arguments[:1]])
    logging.raiseExceptions = False  # what cannot be written is lost; complaints would go the same way
    logging.basicConfig(level=level, handlers=[Aside(target, unnamed) for target in targets], force=True)


def _choice(settings: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of `choices` in any case; the first one where it is not set."""
    given = settings.get(name) or choices[0]
    for choice in choices:
        if given.lower() == choice.lower():
            return choice
    raise ValueError(f"TANGO_JIT_LOG_{name}: expected one of {', '.join(choices)}, got {given!r}")


def _number(settings: Mapping[str, str], name: str, default: int) -> int:
    given = settings.get(name) or str(default)
    if not given.isdecimal() or not 1 <= int(given) <= 10_000:
        raise ValueError(f"TANGO_JIT_LOG_{name}: expected a whole number from 1 to 10000, got {given!r}")
    return int(given)


def end() -> bool:
    """Write what waits, for 2 s at most; what comes later is lost. False: one is stuck, and would hold up an exit."""
    ours = [handler for handler in logging.getLogger().handlers if isinstance(handler, Aside)]
    for handler in ours:
        logging.getLogger().removeHandler(handler)
        handler.close()
    return not any(handler.stuck for handler in ours)


def brief(value: Any) -> str:
    """A value as a log shows it: 200 characters at most, on one line."""
    text = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def join(device: Any) -> None:
    """From now on messages of this device go to its streams, and those that name none to the first device's."""
    _devices[device.get_name()] = device


def leave(device: Any) -> None:
    """The device goes away; nothing is sent to it after this."""
    with _leaving:
        if _devices.get(device.get_name()) is device:
            del _devices[device.get_name()]


_leaving = threading.RLock()  # no device leaves while it is spoken to


class Aside(QueueHandler):
    """Hands messages to `target` on a thread of its own, and never waits: what does not fit is dropped and counted."""

    def __init__(self, target: logging.Handler, unnamed: str) -> None:
        """`unnamed`: whose the messages are that name no device, before there is one."""
        self._unnamed = unnamed
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MOST)
        super().__init__(self._waiting)
        self.dropped = 0
        self._target = target
        self._thread = threading.Thread(target=self._run, name=f"log {type(target).__name__}", daemon=True)
        self._thread.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Text instead of objects, which may change or hold memory; three threads take the same record."""
        record.message = record.msg = record.getMessage()
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
        if not hasattr(record, "device"):
            record.device = next(iter(_devices), self._unnamed)
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    @property
    def stuck(self) -> bool:
        """After `close`: its thread could not end."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Write what waits, for 2 s at most."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=ENDING_S)
        self._thread.join(ENDING_S)
        if not self.stuck:
            self._target.close()
        super().close()

    def _run(self) -> None:
        with tango.EnsureOmniThread():
            while (record := self._waiting.get()) is not None:
                self._target.handle(record)
                if self.dropped and self._waiting.empty():
                    dropped, self.dropped = self.dropped, 0
                    text = f"{dropped} messages were dropped here: they came faster than they could be written"
                    lost = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
                    self._target.handle(self.prepare(lost))


class TangoStreams(logging.Handler):
    """Tango's own logging, of the device that the message is of: -v, AddLoggingTarget and SetLoggingLevel choose."""

    def emit(self, record: logging.LogRecord) -> None:
        with _leaving:
            device = _devices.get(getattr(record, "device", ""))
            if device is not None:
                text = record.getMessage() + (f"\n{record.exc_text}" if record.exc_text else "")
                stream = STREAMS[min(max(record.levelno // 10 * 10, 10), 50)]
                getattr(device, stream)(text)


class LogFile(RotatingFileHandler):
    """A file that is renamed at its largest size, and opened anew after a failure: a full disk may have room again."""

    def __init__(self, path: Path, largest_bytes: int, kept: int) -> None:
        super().__init__(path, maxBytes=largest_bytes, backupCount=kept, delay=True, encoding="utf-8")
        self._complained_at = -COMPLAIN_EVERY_S

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()
        if time.monotonic() - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            with suppress(OSError):
                print(f"log file {self.baseFilename}: messages are lost: {error}", file=sys.stderr, flush=True)


def _formatter(kind: str) -> logging.Formatter:
    return JsonLines() if kind == "json" else logging.Formatter(TEXT)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (s since the epoch), level, device, logger, message, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 6),
            "level": record.levelname,
            "device": getattr(record, "device", "-"),
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(line | ({"traceback": record.exc_text} if record.exc_text else {}), ensure_ascii=False)


def of_device(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """The messages of one device."""
    return logging.LoggerAdapter(logging.getLogger("devices"), {"device": name})
