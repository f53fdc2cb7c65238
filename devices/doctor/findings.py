"""What a check finds, and the time that it has for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Level(Enum):
    """OK, WARNING (it works, or may be meant so), PROBLEM (somebody has to do something)."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was looked at, how it is, and what to do where that is not well."""

    check: str
    level: Level
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if (self.level is Level.OK) == bool(self.advice):
            raise ValueError(f"{self.check}: expected an advice where and only where it is not ok, got {self.advice!r}")


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.PROBLEM, found, advice)


def together(actions: Mapping[str, Callable[[], T]], limit_s: float) -> dict[str, T | Exception]:
    """Do all of them at once, each in a thread; what each returns, or what it raised: TimeoutError after `limit_s`.

    One that hangs is left behind in its thread, which does not keep the process alive.
    """
    results: dict[str, T | Exception] = {}

    def do(name: str, action: Callable[[], T]) -> None:
        try:
            results[name] = action()
        except Exception as error:  # whatever it is, it is what this check has found
            results[name] = error

    threads = [threading.Thread(target=do, args=one, name=f"check {one[0]}", daemon=True) for one in actions.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    done = dict(results)  # those that come later are late
    return {name: done.get(name, TimeoutError(f"no answer within {limit_s:g} s")) for name in actions}
