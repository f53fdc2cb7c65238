"""The simulated detector when things happen: sought positions, faults, stalls, restarts, another dose - with a real
reconstructor behind it, which counts what was done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sim.detector import DetectorService
from sim.faults import Fractions
from sim.replay import recording_index
from tango_jit.services.reconstructor import ReconstructorService
from tango_jit.services.service import State
from tango_jit.streams import Flat, Header, Image, SeriesEnd, Slice
from tests.events import wait_until
from tests.services.conftest import CONE, DARK, FAN, FLAT, STEP_RAD, VIEWS, Scan, Tap, pass_turns


def prepared(detector: DetectorService, path: str, **settings: Any) -> DetectorService:
    for name, value in {"recording": path, "loop": True, **settings}.items():
        detector.write(name, value)
    return detector


def stepped(detector: DetectorService, raw: Tap, frames: int) -> list[Image]:
    """Step, and return the frames of the running series once the detector has made these and all have come."""
    made = detector.values["frames_total"]
    detector.step(frames)
    wait_until(lambda: detector.values["frames_total"] == made + frames, 20, f"{frames} frames")
    pass_turns(detector)
    return raw.all(Image)


def came(raw: Tap, count: int) -> list[Image]:
    wait_until(lambda: len(raw.all(Image)) >= count, 20, f"{count} frames")
    return raw.all(Image)


def refused(action: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        action()


# ---- positions


def test_the_replay_goes_anywhere_while_it_is_paused(detector, tap, tmp_path):
    scan = Scan(FAN)
    raw = tap(prepared(detector, scan.write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 5)
    assert detector.values["position"] == 4
    for position in (17, 2, 2, 23):
        detector.write("position", position)
        assert detector.values["position"] == position
        stepped(detector, raw, 2)
        assert detector.values["position"] == (position + 1) % VIEWS
    images = came(raw, 13)
    assert [image.frame for image in images] == list(range(13))
    indices = [0, 1, 2, 3, 4, 17, 18, 2, 3, 2, 3, 23, 0]
    assert [recording_index(detector.values["passes"], image.frame) for image in images] == indices
    for image, index in zip(images, indices):
        np.testing.assert_array_equal(image.data, scan.views[index])
        turns = (image.angle_rad - STEP_RAD * index) / (2 * np.pi)
        assert turns == pytest.approx(round(turns))
    assert detector.values["rotation"] == pytest.approx(8 / VIEWS)
    assert detector.values["recording_frames"] == VIEWS


def test_the_replay_goes_anywhere_while_it_runs(detector, tap, tmp_path):
    raw = tap(prepared(detector, Scan(FAN).write(tmp_path / "scan.h5")).values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    detector.write("position", 20)

    def jumped() -> bool:
        passes = detector.values["passes"]
        return any(index == 20 for _, index in passes.tolist())

    wait_until(jumped, what="the jump")
    detector.stop()
    raw.wait(SeriesEnd)
    frames = [image.frame for image in raw.all(Image)]
    assert frames == list(range(len(frames)))


def test_a_series_begins_where_it_was_told_to_and_the_next_at_the_beginning(detector, tap, tmp_path):
    raw = tap(prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), loop=False).values["raw_endpoint"])
    detector.write("position", 21)
    detector.start()
    end = raw.wait(SeriesEnd)
    assert [round(image.angle_rad / STEP_RAD) for image in raw.all(Image)] == [21, 22, 23]
    assert [image.frame for image in raw.all(Image)] == [0, 1, 2]
    wait_until(lambda: not detector.values["running"], what="the end")
    detector.start()
    raw.wait(SeriesEnd, lambda other: other.series != end.series)
    assert len(raw.all(Image)) == 3 + VIEWS
    assert detector.values["frames_total"] == 3 + VIEWS


def test_positions_that_are_not_replayed_are_refused_and_change_nothing(detector, tap, tmp_path):
    refused(lambda: detector.write("position", 3), "position: expected 0 to -1")
    prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), last_frame=9)
    refused(lambda: detector.write("position", 10), "position: expected 0 to 9, the frames that are replayed, got 10")
    raw = tap(detector.values["raw_endpoint"])
    stepped(detector, raw, 2)
    refused(lambda: detector.write("position", 10), "expected 0 to 9")
    stepped(detector, raw, 1)
    assert [image.frame for image in came(raw, 3)] == [0, 1, 2]
    assert detector.values["position"] == 2


# ---- the pair: what was injected is what is counted


@pytest.fixture
def pair(tmp_path, clock) -> Iterator[Callable[..., tuple[DetectorService, ReconstructorService, Tap]]]:
    """A detector of a recording of counts, the reconstructor that pulls from it, and a tap on its slices."""
    made: list[Any] = []

    def make(**settings: Any) -> tuple[DetectorService, ReconstructorService, Tap]:
        detector = DetectorService(clock=clock)
        path = Scan(CONE, counts=True).write(tmp_path / "scan.h5")
        prepared(detector, path, frame_period_s=0, **settings)
        reconstructor = ReconstructorService(lambda: detector.values["raw_endpoint"], clock=clock)
        slices = Tap(reconstructor.values["slices_endpoint"])
        made.extend((slices, reconstructor, detector))
        slices.join(reconstructor._slices_out)
        reconstructor.write("update_every", 1)
        reconstructor.start()
        return detector, reconstructor, slices

    yield make
    for one in made:
        one.close()


def counts(service: ReconstructorService) -> dict[str, int]:
    """Its counters of this moment."""
    return service.ask(service.counters, timeout_s=20)


def settled(detector: DetectorService, reconstructor: ReconstructorService, frames: int) -> dict[str, int]:
    """Step, and the counters once the last of the frames is in the reconstructor's counts."""
    made = detector.values["frames_sent"]
    detector.step(frames)
    wait_until(lambda: detector.values["frames_sent"] == made + frames, 60, "the frames")

    def all_there() -> dict[str, int] | None:
        now = counts(reconstructor)
        return now if now["frames_received"] + now["frames_lost"] == made + frames else None

    return wait_until(all_there, 60, f"all of {made + frames} frames accounted for")


FAULTS = {"drop": 0.05, "duplicate": 0.06, "reorder": 0.05, "corrupt": 0.04, "late": 0.02, "seed": 29}
FRAMES = 400


def test_what_was_injected_is_what_the_reconstructor_counts(pair):
    plan = Fractions(**FAULTS)
    assert not plan.fault(0)  # what is lost before the first or after the last frame nobody can know
    assert not any(plan.fault(n) for n in range(FRAMES, FRAMES + 12))
    detector, reconstructor, _ = pair(**{f"fault_{kind}": value for kind, value in FAULTS.items()})
    seen = settled(detector, reconstructor, FRAMES + 12)
    injected = {kind: detector.values[f"injected_{kind}"] for kind in FAULTS if kind != "seed"}
    assert min(injected.values()) > 0
    assert seen["frames_lost"] == injected["drop"] + injected["corrupt"]
    assert seen["frames_duplicate"] == injected["duplicate"]
    assert seen["frames_late"] == injected["reorder"] + injected["late"]
    assert detector.values["frames_sent"] == seen["frames_received"] + seen["frames_lost"]
    assert reconstructor._subscriber is not None
    assert reconstructor._subscriber.invalid == injected["corrupt"]


def test_faults_begin_and_end_while_frames_are_sent(pair):
    detector, reconstructor, _ = pair()
    settled(detector, reconstructor, 10)
    detector.write("fault_duplicate", 1.0)
    settled(detector, reconstructor, 10)
    detector.write("fault_duplicate", 0.0)
    assert settled(detector, reconstructor, 10)["frames_duplicate"] == 10 == detector.values["injected_duplicate"]


def test_saturated_frames_are_refused_and_noise_is_not(pair):
    detector, reconstructor, _ = pair(fault_garble=0.5, fault_seed=1)
    seen = settled(detector, reconstructor, 60)
    assert 10 < detector.values["injected_garble"] < 50
    assert 0 < seen["frames_refused"] < detector.values["injected_garble"]
    assert seen["frames_lost"] == 0


def test_fractions_above_one_together_are_refused_and_change_nothing(detector):
    detector.write("fault_drop", 0.7)
    refused(lambda: detector.write("fault_late", 0.4), r"expected at most 1 together, got 1.1")
    refused(lambda: detector.write("fault_late", 1.4), "fault_late: expected 0 to 1, got 1.4")
    assert detector.values["fault_late"] == 0


# ---- jumps, restarts and doses as the reconstructor sees them


def windows(slices: Tap, series: str) -> list[tuple[int, int]]:
    return [(s.first_frame, s.last_frame) for s in slices.all(Slice) if s.series == series]


def test_no_slice_is_made_of_frames_before_and_after_a_jump(pair):
    detector, reconstructor, slices = pair()
    settled(detector, reconstructor, 2 * VIEWS)
    detector.write("position", 7)
    assert settled(detector, reconstructor, 2 * VIEWS)["frames_lost"] == 0
    slices.wait(Slice, lambda s: s.last_frame == 4 * VIEWS - 1)
    for first, last in windows(slices, detector.values["series"]):
        assert last < 2 * VIEWS or first >= 2 * VIEWS
    assert any(first >= 2 * VIEWS for first, _ in windows(slices, detector.values["series"]))


def test_another_dose_brings_its_flat_and_no_slice_mixes_both(pair):
    detector, reconstructor, slices = pair()
    settled(detector, reconstructor, 2 * VIEWS)
    before = slices.wait(Slice, lambda s: s.last_frame == 2 * VIEWS - 1 and s.slice == "xy")
    detector.write("dose", 0.25)
    settled(detector, reconstructor, 2 * VIEWS)
    after = slices.wait(Slice, lambda s: s.last_frame == 4 * VIEWS - 1 and s.slice == "xy")
    for first, last in windows(slices, detector.values["series"]):
        assert last < 2 * VIEWS or first >= 2 * VIEWS
    whole, thin = (picture.data[:2, 0].mean(axis=0) for picture in (before, after))
    noise = float(np.abs(thin - whole).mean())
    assert 0 < noise < 0.2 * whole.max()  # the same object, with noise of its own
    assert thin.mean() == pytest.approx(whole.mean(), rel=0.05)
    assert reconstructor.values["state"] is not State.FAULT


def test_the_flat_of_a_dose_comes_between_its_frames_and_those_held_back(detector, tap, tmp_path):
    raw = tap(prepared(detector, Scan(FAN, counts=True).write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 3)
    detector.write("fault_late", 1.0)
    stepped(detector, raw, 2)
    detector.write("fault_late", 0.0)
    detector.write("dose", 0.5)
    stepped(detector, raw, 2)
    came(raw, 7)
    tail = [m.frame if isinstance(m, Image) else type(m).__name__ for m in raw.seen]
    assert tail[-5:] == [3, 4, "Flat", 5, 6]
    flat = raw.all(Flat)[-1]
    np.testing.assert_allclose(flat.mean, DARK + 0.5 * (FLAT - DARK))
    late = tap(detector.values["monitor_endpoint"], "sub")
    np.testing.assert_array_equal(late.wait(Flat).mean, flat.mean)  # newcomers get that of now
    detector.stop()
    raw.wait(SeriesEnd)
    detector.start()
    series = raw.wait(Header, lambda header: header.series != flat.series).series
    np.testing.assert_array_equal(raw.wait(Flat, lambda f: f.series == series).mean, flat.mean)


def test_a_lower_dose_of_line_integrals_is_refused(detector, tap, tmp_path):
    raw = tap(prepared(detector, Scan(FAN).write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 1)
    refused(lambda: detector.write("dose", 0.5), "dose: expected 1 for a recording that is -log already")
    assert detector.values["dose"] == 1
    detector.stop()
    raw.wait(SeriesEnd)
    detector.write("dose", 0.5)  # it may be for another recording
    refused(detector.start, "dose: expected 1")


def test_a_moved_axis_moves_the_frames(detector, tap, tmp_path):
    scan = Scan(FAN)
    raw = tap(prepared(detector, scan.write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 1)
    detector.write("center_shift_px", 4)
    stepped(detector, raw, 1)
    images = came(raw, 2)
    np.testing.assert_array_equal(images[0].data, scan.views[0])
    np.testing.assert_array_equal(images[1].data[:, 4:], scan.views[1][:, :-4])


# ---- stall and restart


def test_a_camera_that_restarts_begins_a_new_series_where_it_is(pair, tap):
    detector, reconstructor, slices = pair()
    settled(detector, reconstructor, VIEWS + 5)
    first = detector.values["series"]
    monitor = tap(detector.values["monitor_endpoint"], "sub")
    monitor.wait(Header)
    detector.restart()
    wait_until(lambda: reconstructor.values["series"] not in ("", first), what="the new series")
    settled(detector, reconstructor, 2 * VIEWS)
    second = detector.values["series"]
    assert detector.values["frames_total"] == 3 * VIEWS + 5
    assert detector.values["passes"].tolist() == [[0, 5], [VIEWS - 5, 0], [2 * VIEWS - 5, 0]]
    slices.wait(Slice, lambda s: s.series == second and s.last_frame == 2 * VIEWS - 1)
    assert all(first >= 0 and last < 2 * VIEWS for first, last in windows(slices, second))
    assert reconstructor.values["frames_lost"] == 0
    assert not monitor.all(SeriesEnd)  # it died


def test_a_stall_loses_what_the_buffer_cannot_hold(detector, tap, tmp_path, clock):
    prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), frame_period_s=0.1)
    raw = tap(detector.values["raw_endpoint"])
    detector.start()
    raw.wait(Image)
    pass_turns(detector)
    detector.stall(5.0)
    pass_turns(detector)
    clock.now += 0.15  # no frame, although one is due
    pass_turns(detector)
    assert detector.values["frames_sent"] == 1
    clock.now += 0.3
    wait_until(lambda: "stalled on command" in detector.values["status"], what="the word")
    assert detector.values["state"] is State.ALARM
    clock.now += 4.57
    images = came(raw, 11)  # 40 of 50 are lost, those of the last second come at once
    pass_turns(detector)
    assert len(raw.all(Image)) == 11
    assert [image.frame for image in images] == [0, *range(41, 51)]
    assert images[1].angle_rad == pytest.approx(41 * STEP_RAD)
    assert detector.values["injected_stall"] == 40
    assert detector.values["frames_sent"] == 51
    passes = detector.values["passes"]
    assert [recording_index(passes, image.frame) for image in images[1:]] == [n % VIEWS for n in range(41, 51)]


def test_without_a_rate_a_stall_loses_nothing(detector, tap, tmp_path, clock):
    raw = tap(prepared(detector, Scan(FAN).write(tmp_path / "scan.h5"), loop=False).values["raw_endpoint"])
    stepped(detector, raw, 1)
    detector.stall(2.0)
    detector.start()
    clock.now += 2.5
    raw.wait(SeriesEnd)
    assert [image.frame for image in raw.all(Image)] == list(range(VIEWS))


def test_stalls_and_restarts_of_nothing_are_refused(detector, tap, tmp_path):
    refused(lambda: detector.stall(1.0), "Stall: expected a series that runs")
    refused(detector.restart, "Restart: expected a series that runs")
    raw = tap(prepared(detector, Scan(FAN).write(tmp_path / "scan.h5")).values["raw_endpoint"])
    stepped(detector, raw, 1)
    for seconds in (0.0, -1.0, 601.0, float("nan")):
        refused(lambda seconds=seconds: detector.stall(seconds), "Stall: expected above 0 to 600 s")
