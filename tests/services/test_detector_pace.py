"""When frames go out, and how well that was kept."""

from __future__ import annotations

import numpy as np

from tango_jit.recordings.recording import Recording
from tango_jit.streams import Dark, Flat, Image
from tests.services.conftest import DARK, FAN, FLAT, Scan, pass_turns
from tests.services.test_detector_disturbed import came, prepared, stepped


def test_the_next_frame_is_read_before_it_is_due_and_only_once(detector, tap, tmp_path, clock, monkeypatch):
    reads: list[int] = []
    read = Recording.frame

    def counted(recording: Recording, index: int) -> Image:
        reads.append(index)
        return read(recording, index)

    monkeypatch.setattr(Recording, "frame", counted)
    prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), frame_period_s=10.0)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    pass_turns(detector)
    assert reads == [0, 1]
    clock.now += 10.0
    came(raw, 2)
    pass_turns(detector)
    assert reads == [0, 1, 2]


def test_another_period_counts_for_the_next_frame(detector, tap, tmp_path, clock):
    prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), frame_period_s=3600.0)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    clock.now += 0.5
    pass_turns(detector)
    assert detector.values["frames_sent"] == 1
    detector.write("frame_period_s", 0.5)
    came(raw, 2)


def test_lateness_and_jitter_are_those_of_the_last_frames(detector, tap, tmp_path, clock):
    prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), frame_period_s=1.0)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    for sent in range(2, 6):
        pass_turns(detector)
        clock.now += 1.0
        came(raw, sent)
    pass_turns(detector)  # the last one is accounted for
    clock.now += 0.25  # housekeeping
    pass_turns(detector)
    assert detector.values["lateness_p50_ms"] == 0
    assert detector.values["lateness_p99_ms"] == 0
    assert detector.values["jitter_ms"] == 0


def test_the_first_dark_is_the_recordings(detector, tap, tmp_path):
    prepared(detector, Scan(FAN, counts=True).write(tmp_path / "scan.h5"), dose=0.5)
    raw = tap(detector.values["raw_endpoint"])
    stepped(detector, raw, 1)
    assert (raw.wait(Dark).mean == DARK).all()
    np.testing.assert_allclose(raw.wait(Flat).mean, DARK + 0.5 * (FLAT - DARK))
