"""The simulated detector as a service: what it sends, in which order, and what it does when nobody takes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sim.detector import DetectorService
from tango_jit.services.service import Listener, State
from tango_jit.streams import Dark, Flat, Header, Image, SeriesEnd
from tests.events import wait_until
from tests.services.conftest import CONE, DARK, FAN, FLAT, PARALLEL, STEP_RAD, VIEWS, Scan, pass_turns

HALF = VIEWS // 2


class Lateness(Listener):
    """Every `lateness_ms` that was published."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def changed(self, values: Mapping[str, Any]) -> None:
        if "lateness_ms" in values:
            self.seen.append(values["lateness_ms"])


def replay(detector, tap, path):
    """Replay all of a recording, and what came."""
    detector.write("recording", path)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(SeriesEnd)
    return raw


def stepped(detector, raw, frames, total):
    """Step, and return the frames of the series once they are `total`."""
    detector.step(frames)
    wait_until(lambda: len(raw.all(Image)) >= total, 20, f"{total} frames")
    pass_turns(detector)
    assert len(raw.all(Image)) == total
    return raw.all(Image)


def housekeeping(detector, clock):
    clock.now += 0.3
    pass_turns(detector)


# ---- what is sent


def test_header_dark_and_flat_come_before_all_frames(detector, tap, tmp_path):
    scan = Scan(CONE, counts=True)
    raw = replay(detector, tap, scan.write(tmp_path / "scan.h5"))
    kinds = [type(message) for message in raw.seen]
    first = kinds.index(Image)
    assert set(kinds[:first]) == {Header, Dark, Flat}  # whoever connects may get them twice
    assert kinds[0] is Header
    assert kinds[first:] == [Image] * VIEWS + [SeriesEnd]
    header = raw.all(Header)[0]
    assert (header.geometry, header.linear, header.stage) == (CONE, False, "raw")
    assert (raw.all(Dark)[0].mean == DARK).all()
    assert (raw.all(Flat)[0].mean == FLAT).all()
    assert {message.series for message in raw.seen if isinstance(message, (Header, Dark, Flat, Image, SeriesEnd))} == {
        detector.values["series"]
    }


def test_frames_are_those_of_the_recording(detector, tap, tmp_path, clock):
    scan = Scan(CONE)
    raw = replay(detector, tap, scan.write(tmp_path / "scan.h5"))
    images = raw.all(Image)
    assert [image.frame for image in images] == list(range(VIEWS))
    np.testing.assert_allclose([image.angle_rad for image in images], STEP_RAD * np.arange(VIEWS))
    for image, view in zip(images, scan.views):
        np.testing.assert_array_equal(image.data, view)
    assert raw.all(SeriesEnd)[0].frames == VIEWS
    wait_until(lambda: "Start replays again" in detector.values["status"], what="the end of the replay")
    assert detector.values["state"] is State.STANDBY
    assert f"replayed {VIEWS} frames" in detector.values["status"]
    assert detector.values["frame_number"] == VIEWS - 1
    assert detector.values["progress"] == 100
    assert detector.values["rotation"] == pytest.approx((VIEWS - 1) / VIEWS)
    np.testing.assert_array_equal(detector.values["image"], scan.views[-1])


def test_first_and_last_frame_bound_the_replay(detector, tap, tmp_path):
    scan = Scan(FAN)
    detector.write("last_frame", 9)
    detector.write("first_frame", 4)
    raw = replay(detector, tap, scan.write(tmp_path / "scan.h5"))
    images = raw.all(Image)
    np.testing.assert_allclose([image.angle_rad for image in images], STEP_RAD * np.arange(4, 10))
    np.testing.assert_array_equal(images[0].data, scan.views[4])
    assert [image.frame for image in images] == list(range(6))
    assert raw.all(SeriesEnd)[0].frames == 6


def test_progress_is_that_of_the_range(detector, tap, tmp_path, clock):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    detector.write("first_frame", 4)
    detector.write("last_frame", 11)
    stepped(detector, tap(detector.values["raw_endpoint"]), 6, 6)
    housekeeping(detector, clock)
    assert detector.values["progress"] == pytest.approx(75)


def test_gaps_of_the_recording_stay_gaps(detector, tap, tmp_path):
    raw = replay(detector, tap, Scan(FAN).write(tmp_path / "scan.h5", (0, 1, 4, 5)))
    assert [image.frame for image in raw.all(Image)] == [0, 1, 4, 5]


def test_loops_of_a_whole_turn_go_on(detector, tap, tmp_path):
    scan = Scan(FAN)
    detector.write("recording", scan.write(tmp_path / "scan.h5"))
    detector.write("loop", True)
    images = stepped(detector, tap(detector.values["raw_endpoint"]), 3 * VIEWS, 3 * VIEWS)
    assert [image.frame for image in images] == list(range(3 * VIEWS))
    np.testing.assert_allclose([image.angle_rad for image in images], STEP_RAD * np.arange(3 * VIEWS))
    assert all(image.pose is None for image in images)
    np.testing.assert_array_equal(images[2 * VIEWS + 5].data, scan.views[5])


def test_loops_of_a_part_of_a_turn_leap_to_the_next(detector, tap, tmp_path):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5", range(VIEWS - 6)))
    detector.write("loop", True)
    images = stepped(detector, tap(detector.values["raw_endpoint"]), VIEWS, VIEWS)
    again = images[VIEWS - 6]
    assert again.frame == VIEWS - 6
    assert again.angle_rad == pytest.approx(2 * np.pi)


def test_loops_of_half_a_turn_of_a_parallel_beam_go_on_by_half_turns(detector, tap, tmp_path):
    detector.write("recording", Scan(PARALLEL).write(tmp_path / "scan.h5", range(HALF)))
    detector.write("loop", True)
    images = stepped(detector, tap(detector.values["raw_endpoint"]), 3 * HALF, 3 * HALF)
    assert [image.frame for image in images] == list(range(3 * HALF))
    np.testing.assert_allclose([image.angle_rad for image in images], STEP_RAD * np.arange(3 * HALF), atol=1e-9)
    for image in images:  # the stage never leaves its half turn
        taken_from = image.pose or tuple(PARALLEL.vectors(image.angle_rad)[0])
        true = PARALLEL.vectors(STEP_RAD * (image.frame % HALF))[0]
        np.testing.assert_allclose(taken_from, true, atol=1e-9)


def test_monitors_that_come_late_get_the_header(detector, tap, tmp_path):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    raw = tap(detector.values["raw_endpoint"])
    stepped(detector, raw, 2, 2)
    monitor = tap(detector.values["monitor_endpoint"], "sub")
    header = monitor.wait(Header)
    assert header == raw.all(Header)[0]
    stepped(detector, raw, 3, 5)
    monitor.wait(Image, lambda image: image.frame == 4)
    assert [image.frame for image in monitor.all(Image)] == [2, 3, 4]


# ---- start, stop, pause, step


def test_steps_are_exact_and_start_goes_on(detector, tap, tmp_path, clock):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    raw = tap(detector.values["raw_endpoint"])
    stepped(detector, raw, 3, 3)
    housekeeping(detector, clock)
    assert detector.values["state"] is State.STANDBY
    assert "paused after frame 2" in detector.values["status"]
    assert detector.values["frames_sent"] == 3
    assert detector.values["progress"] == pytest.approx(100 * 3 / VIEWS)
    stepped(detector, raw, 1, 4)
    detector.start()
    raw.wait(SeriesEnd)
    assert [image.frame for image in raw.all(Image)] == list(range(VIEWS))
    assert len({header.series for header in raw.all(Header)}) == 1


def test_pause_holds_and_start_goes_on(detector, tap, tmp_path, clock):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    detector.write("loop", True)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    detector.pause()
    housekeeping(detector, clock)
    sent = detector.values["frames_sent"]
    assert "paused" in detector.values["status"]
    pass_turns(detector)
    assert detector.values["frames_sent"] == sent
    wait_until(lambda: len(raw.all(Image)) == sent, what="the frames before the pause")
    detector.start()
    wait_until(lambda: len(raw.all(Image)) > sent, what="frames after the pause")
    assert len({header.series for header in raw.all(Header)}) == 1


def test_a_refused_step_leaves_nothing_owed(detector, tap, tmp_path):
    with pytest.raises(ValueError, match="recording: expected"):
        detector.step(3)
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        detector.step(0)
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    stepped(detector, tap(detector.values["raw_endpoint"]), 1, 1)


def test_stop_ends_the_series_and_start_begins_another(detector, tap, tmp_path):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    raw = tap(detector.values["raw_endpoint"])
    stepped(detector, raw, 2, 2)
    first = detector.values["series"]
    detector.stop()
    assert raw.wait(SeriesEnd) == SeriesEnd(first, 2)
    detector.start()
    second = raw.wait(SeriesEnd, lambda end: end.series != first)
    assert second.frames == VIEWS
    assert any(header.series == second.series for header in raw.all(Header))
    frames = [image.frame for image in raw.all(Image) if image.series == second.series]
    assert frames == list(range(VIEWS))


def test_what_a_stopped_series_still_owed_is_forgotten(detector, tap, tmp_path):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    detector.step(5)  # nobody is there to take them
    wait_until(lambda: "waiting for a reconstructor" in detector.values["status"], what="the wait")
    detector.stop()
    wait_until(lambda: "stopped" in detector.values["status"], what="the stop")
    detector.ask(lambda: None, timeout_s=10)  # the worker has put everything away
    raw = tap(detector.values["raw_endpoint"])
    stepped(detector, raw, 2, 2)


# ---- when nobody takes the frames


def test_the_pace_is_the_frame_period(detector, tap, tmp_path, clock):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    detector.write("frame_period_s", 4.0)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    for sent in (1, 2, 3):
        clock.now += 2.0
        pass_turns(detector)
        assert detector.values["frames_sent"] == sent
        clock.now += 2.0
        wait_until(lambda sent=sent: len(raw.all(Image)) == sent + 1, what=f"frame {sent}")
        pass_turns(detector)
    assert detector.values["lateness_ms"] == 0
    housekeeping(detector, clock)
    assert detector.values["state"] is State.RUNNING


def test_frames_that_nobody_takes_are_held_back_and_alarm(detector, tap, tmp_path, clock):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    detector.write("frame_period_s", 10.0)
    detector.write("loop", True)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    assert detector.values["frames_held_back"] == 0
    raw.close()
    late = Lateness()
    detector.listen(late)

    def held():
        clock.now += 10.0
        return detector.values["frames_held_back"]

    assert wait_until(held, what="a frame that is held back") == 1
    clock.now += 20.0
    wait_until(lambda: detector.values["state"] is State.ALARM, what="the alarm")
    assert "s late: the reconstructor is missing or too slow" in detector.values["status"]
    sent = detector.values["frames_sent"]
    again = tap(detector.values["raw_endpoint"])
    assert again.wait(Image).frame == sent
    assert isinstance(again.seen[0], Header)
    wait_until(lambda: detector.values["frames_sent"] > sent, what="the frame that was held back")
    assert max(late.seen) > 20_000
    assert detector.values["frames_held_back"] == 1
    housekeeping(detector, clock)
    wait_until(lambda: detector.values["state"] is State.RUNNING, what="work as usual")


def test_without_a_reconstructor_it_waits_and_says_so(detector, tap, tmp_path):
    detector.write("recording", Scan(FAN).write(tmp_path / "scan.h5"))
    detector.start()
    wait_until(lambda: "waiting for a reconstructor" in detector.values["status"], what="the wait")
    assert detector.values["state"] is State.STANDBY
    assert detector.values["frames_sent"] == 0
    raw = tap(detector.values["raw_endpoint"])
    raw.wait(SeriesEnd)
    assert [image.frame for image in raw.all(Image)] == list(range(VIEWS))


# ---- what is refused


def test_nonsense_recordings_are_refused_in_words_and_change_nothing(detector, tmp_path):
    good = Scan(FAN).write(tmp_path / "scan.h5")
    detector.write("recording", good)
    text = tmp_path / "text.h5"
    text.write_text("this is no recording")
    for path in (text, tmp_path / "missing.h5", tmp_path):
        with pytest.raises((ValueError, OSError), match=path.name):
            detector.write("recording", str(path))
        assert detector.values["recording"] == good


def test_a_start_without_a_recording_and_a_range_without_frames_are_refused(detector):
    with pytest.raises(ValueError, match="recording: expected the path"):
        detector.start()
    detector.write("last_frame", 5)
    with pytest.raises(ValueError, match="expected first_frame <= last_frame, got 6 and 5"):
        detector.write("first_frame", 6)
    assert detector.values["first_frame"] == 0


@pytest.mark.parametrize("begin", ["start", "step"])
def test_a_range_beyond_the_recording_and_a_recording_that_is_gone_are_refused(detector, tmp_path, begin):
    path = Scan(FAN).write(tmp_path / "scan.h5")
    detector.write("recording", path)
    detector.write("first_frame", VIEWS)
    with pytest.raises(ValueError, match=f"first_frame: expected below {VIEWS}"):
        getattr(detector, begin)()
    detector.write("first_frame", 0)
    Path(path).unlink()
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        getattr(detector, begin)()
    assert detector.values["state"] is State.STANDBY


def test_a_remembered_recording_is_ready_again_and_told_when_it_is_gone(tmp_path):
    path = Scan(FAN).write(tmp_path / "scan.h5")
    with closing(DetectorService(recording=path)) as detector:
        assert (detector.values["recording"], detector.values["state"]) == (path, State.STANDBY)
        assert f"Start replays {VIEWS} frames" in detector.values["status"]
    Path(path).unlink()
    with closing(DetectorService(recording=path)) as detector:
        assert (detector.values["recording"], detector.values["state"]) == (path, State.ALARM)
        assert "scan.h5" in detector.values["status"]
        detector.write("recording", "")
        assert detector.values["state"] is State.STANDBY


def test_a_recording_that_contradicts_itself_is_a_fault_in_words(detector, tap, tmp_path):
    path = Scan(FAN, counts=True).write(tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        mean = file["entry/tango_jit/flat_mean"]
        assert isinstance(mean, h5py.Dataset)
        mean[0, 0] = 1.0
    detector.write("recording", path)  # the frames of darks and flats are averaged only when they are wanted
    tap(detector.values["raw_endpoint"])
    detector.start()
    wait_until(lambda: detector.values["state"] is State.FAULT, what="the fault")
    assert "flat_mean" in detector.values["status"]

    def let_go() -> bool:
        try:
            with h5py.File(path, "r+"):
                return True
        except OSError:
            return False

    wait_until(let_go, what="the end of the worker's hold on the file")
