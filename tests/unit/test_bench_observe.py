"""What a live run is said to have been: rates, latencies, losses, growth, from what was seen of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sim.bench.observe import Observation, Sample
from sim.bench.rows import Row
from sim.bench.station import Seen, Setup, is_raw
from sim.bench.suites.live import figures, together
from sim.bench.suites.memory import growth
from sim.bench.suites.sustained import holds
from sim.bench.timing import Effort

SETUP = Setup(period_s=0.01, side=512)


def run(
    seconds: int = 10,
    *,
    sent_hz: float = 100.0,
    received_hz: float | None = None,
    lost: int = 0,
    latency_s: float = 0.25,
) -> Observation:
    """Steady operation: each of three slices twice a second, 8 steps a second; Tango 10 ms after ZeroMQ.

    received_hz : None: all that are sent.
    """
    received_hz = sent_hz if received_hz is None else received_hz
    samples = []
    for second in range(seconds + 1):
        counters = {
            "detector.frames_sent": sent_hz * second,
            "detector.frames_held_back": 0.0,
            "reconstructor.frames_received": received_hz * second,
            "reconstructor.frames_lost": lost * second / seconds,
            "trainer.steps": 8.0 * second,
            "trainer.samples_per_s": float("nan") if second == 0 else 64.0,
            "trainer.reuse": 1.5,
            "trainer.frames_lost": 0.0,
            "denoiser.accuracy": 0.6,
        }
        samples.append(Sample(100.0 + second, counters, {"trainer": 500.0 + second, "detector": 200.0}))
    zmq = [
        Seen(name, 50 * k, 100.25 + k / 2, 100.25 + k / 2 - latency_s, 3)
        for k in range(2 * seconds)
        for name in ("xy", "xz", "yz")
    ]
    by_tango = [Seen(seen.slice, seen.last_frame, seen.at_s + 0.01) for seen in zmq]
    again = [Seen(seen.slice, seen.last_frame, seen.at_s + 0.2) for seen in zmq]  # read once more: does not count
    unknown = [Seen("xy", 12345, 105.0)]  # of which nobody knows when it was needed
    return Observation(tuple(samples), tuple(zmq), (*by_tango, *again, *unknown))


def table(seen: Observation) -> dict[str, Row]:
    return {row.name: row for row in figures(seen, SETUP, targets=True)}


def test_latencies_count_from_the_last_needed_frame_once_a_picture():
    seen = run()
    assert seen.latency_ms() == pytest.approx([250.0] * 60)
    assert seen.tango_latency_ms() == pytest.approx([260.0] * 60)
    rows = table(seen)
    assert rows["latency p99, last needed frame to denoised slice at a ZeroMQ client"].met is True
    assert rows["latency p50, last needed frame to denoised slice at a Tango client's read"].value == pytest.approx(260)


def test_rates_are_those_of_all_the_time():
    seen = run()
    assert seen.rate("trainer.steps").value == pytest.approx(8.0)
    assert seen.slices_hz()["xz"].value == pytest.approx(2.0)
    rows = table(seen)
    assert all(row.met for row in rows.values() if row.target is not None)
    assert len([row for row in rows.values() if row.target is not None]) == 9


@pytest.mark.parametrize(
    ("seen", "missed"),
    [
        (run(lost=3), "frames lost on the way to the reconstructor"),
        (run(sent_hz=98.0), "frames sent"),
        (run(latency_s=1.5), "latency p99, last needed frame to denoised slice at a ZeroMQ client"),
    ],
)
def test_each_floor_can_be_missed(seen, missed):
    assert table(seen)[missed].met is False


def test_runs_of_one_length_have_one_name():
    effort = Effort()
    rows = [together(figures(run(seconds), SETUP, targets=True), effort) for seconds in (60, 61)]
    assert [row.name for row in rows] == 2 * ["live, one run of 60 s, all of it together: floors that are met"]
    assert all((row.value, row.target, row.met) == (9.0, 9.0, True) for row in rows)


def test_pictures_without_trained_weights_do_not_count():
    seen = run()
    raw = tuple(Seen(s.slice, s.last_frame, s.at_s, s.needed_at_s, 0) for s in seen.zmq)
    rows = table(Observation(seen.samples, raw, seen.tango))
    assert rows["denoised pictures of slice xy"].value == 0.0
    assert rows["denoised pictures of slice xy"].met is False


def test_pictures_that_the_guard_shows_raw_do_not_count():
    seen = run()
    guarded = tuple(replace(one, guarded=one.slice == "xy") for one in seen.zmq)
    rows = table(Observation(seen.samples, guarded, seen.tango))
    assert rows["denoised pictures of slice xy"].value == 0.0
    assert rows["denoised pictures of slice xy"].met is False
    assert rows["denoised pictures of slice xz"].met is True
    assert rows["pictures that the guard showed as they were reconstructed"].value == pytest.approx(100 / 3)


def test_a_picture_that_is_the_reconstruction_is_told_from_a_denoised_one():
    raw = np.random.default_rng(0).standard_normal((1, 40, 30)).astype(np.float32)
    raw[0, 0, 0] = np.nan
    assert is_raw(np.stack([raw, raw]))
    assert not is_raw(np.stack([0.5 * raw, raw]))


def test_a_slice_that_never_came_is_a_missed_floor():
    seen = run()
    rows = table(Observation(seen.samples, (), ()))
    assert rows["denoised pictures of slice yz"].met is False
    latency = rows["latency p50, last needed frame to denoised slice at a ZeroMQ client"]
    assert (latency.value, latency.met, latency.note) == (None, None, "not run: no slice came")


def test_a_frame_rate_holds_without_loss_and_without_a_pile():
    assert holds(10.0, run())
    assert not holds(10.0, run(lost=1))
    assert holds(10.0, run(10, sent_hz=98.0))  # some wait just then
    assert not holds(10.0, run(60, sent_hz=98.0))
    assert holds(10.0, run(60, received_hz=99.0))
    assert not holds(10.0, run(60, received_hz=97.0))


def test_memory_growth_compares_thirds():
    rows = {row.name: row for row in growth(run(89), 1.5) if isinstance(row, Row)}
    grown = next(row for name, row in rows.items() if name.startswith("trainer: growth"))
    assert grown.value == pytest.approx(100 * (574.5 / 544.5 - 1), rel=1e-6)  # means of 530..559 and 560..589
    assert grown.met is False
    steady = next(row for name, row in rows.items() if name.startswith("detector: growth"))
    assert steady.value == pytest.approx(0.0)
    assert steady.met is True
