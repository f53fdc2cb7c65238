"""The parts of the logs: nothing waits, files rotate, lines are JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path

from devices.logs import MOST, Aside, JsonLines, LogFile, brief


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("devices", logging.INFO, __file__, 1, text, arguments, None)


class Slow(logging.Handler):
    """Writes nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may, self.began = threading.Event(), threading.Event()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.began.set()
        self.may.wait(60)
        self.seen.append(record.getMessage())


def test_what_is_too_fast_is_dropped_and_counted_and_nobody_waits():
    slow = Slow()
    aside = Aside(slow, "server/1")
    aside.handle(record("0"))
    assert slow.began.wait(10)
    for number in range(1, MOST + 11):  # as many as there is room for, and 10 more
        aside.handle(record("%d", number))
    assert aside.dropped == 10
    slow.may.set()
    aside.close()
    assert not aside.stuck
    assert slow.seen[: MOST + 1] == [str(number) for number in range(MOST + 1)]
    assert slow.seen[MOST + 1].startswith("10 messages were dropped here")


def test_messages_are_text_when_they_are_given_not_when_they_are_written():
    slow, things = Slow(), ["before"]
    aside = Aside(slow, "server/1")
    aside.handle(record("%s", things))
    things[0] = "after"
    slow.may.set()
    aside.close()
    assert slow.seen == ["['before']"]


def test_a_traceback_reaches_the_file(tmp_path: Path):
    file = LogFile(tmp_path / "server_1.log", 10_000, 1)
    file.setFormatter(JsonLines())
    aside = Aside(file, "server/1")
    try:
        raise OSError("the disk is gone")
    except OSError:
        aside.handle(logging.LogRecord("devices", logging.ERROR, __file__, 1, "failed", (), sys.exc_info()))
    aside.close()
    content = json.loads((tmp_path / "server_1.log").read_text())
    assert content["traceback"].startswith("Traceback (most recent call last)")
    assert content["traceback"].endswith("OSError: the disk is gone")
    assert content["device"] == "server/1"


def test_one_that_is_stuck_is_known_as_such_and_left_behind(monkeypatch):
    monkeypatch.setattr("devices.logs.ENDING_S", 0.05)
    slow = Slow()
    aside = Aside(slow, "server/1")
    aside.handle(record("never"))
    aside.close()
    assert aside.stuck
    slow.may.set()


def test_a_file_rotates_and_old_ones_go(tmp_path: Path):
    file = LogFile(tmp_path / "a" / "server_1.log", 1000, 2)
    for number in range(100):
        file.handle(record("%03d %s", number, 90 * "x"))
    file.close()
    found = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert found == ["server_1.log", "server_1.log.1", "server_1.log.2"]
    assert (tmp_path / "a" / "server_1.log").read_text().splitlines()[-1].startswith("099 ")
    assert all(path.stat().st_size <= 1000 for path in (tmp_path / "a").iterdir())


def test_a_line_of_json_holds_a_traceback_and_any_text():
    aside_record = record('100%% of "it"\nµ')
    aside_record.exc_text = "Traceback\n  x"
    line = JsonLines().format(aside_record)
    assert "\n" not in line
    content = json.loads(line)
    assert content["traceback"] == "Traceback\n  x"
    assert content["level"] == "INFO"
    assert "µ" in content["message"]


def test_values_are_shown_in_brief_and_on_one_line():
    assert brief("a\nb") == "'a\\nb'"
    assert brief([1.0, 2.0]) == "[1.0, 2.0]"
    assert len(brief(list(range(1000)))) == 200
