"""What changes while frames come: the scanner, its centre, and a reconstructor that falls behind."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tango_jit.services.service import State
from tango_jit.streams import Image, Slice
from tests.events import wait_until
from tests.services.conftest import FAN, MU_PER_MM, VIEWS, Scan, pass_turns
from tests.services.scans import CONE as TALL_CONE
from tests.services.scans import FAN as WIDE_FAN
from tests.services.scans import PARALLEL as WIDE_PARALLEL
from tests.services.scans import look, see
from tests.services.trainers import training


def attenuation_in_the_ball(scan: Scan, slice_: Slice) -> tuple[float, float]:
    """Mean in the inner part of the ball, and of what is well outside."""
    place = slice_.geometry
    rows, cols = np.indices(place.shape) + 0.5
    x = place.origin_mm[0] + cols / place.cols * place.u_mm[0]
    y = place.origin_mm[1] + rows / place.rows * place.v_mm[1]
    distance = np.hypot(x - scan.ball_mm[0], y - scan.ball_mm[1])
    outside = (distance > 1.3 * scan.ball_radius_mm) & (np.hypot(x, y) < 0.9 * scan.geometry.radius_mm)
    picture = slice_.data[:, 0].mean(axis=0)
    return float(picture[distance < 0.6 * scan.ball_radius_mm].mean()), float(picture[outside].mean())


def test_another_scanner_in_mid_stream_is_reconstructed_and_trained_on(bench, make_trainer):
    """Nothing of the scan before may be left: its slices and patches lie where the next one sees nothing."""
    bench = bench()
    bench.service.write("update_every", 1)
    trainer = make_trainer(SimpleNamespace(endpoint=bench.values["filtered_endpoint"]), start=False)
    trainer.start()
    for name, geometry in (("cone", TALL_CONE), ("fan", WIDE_FAN), ("parallel", WIDE_PARALLEL)):
        scan = Scan(geometry, name)
        bench.push(scan.header)
        if name == "cone":  # the trainer listens: what is sent before it does is not for it
            see(trainer, status=lambda text: text.startswith("no new frames"))
        bench.frames(scan, *range(VIEWS))
        last = bench.slices.wait(
            Slice, lambda s, name=name: (s.series, s.slice, s.last_frame) == (name, "xy", VIEWS - 1)
        )
        inside, outside = attenuation_in_the_ball(scan, last)
        assert inside == pytest.approx(MU_PER_MM, rel=0.1), name
        assert abs(outside) < 0.1 * MU_PER_MM, name
        see(trainer, frames_received=VIEWS, fill=1.0, state=State.RUNNING)
        assert training(trainer)["state"] is State.RUNNING
        values = look(bench.service)
        assert values["state"] in (State.RUNNING, State.STANDBY), name  # no frames come while it is trained
        assert values["last_error"] == "", name
        names = {s.slice for s in bench.slices.all(Slice) if s.series == name}
        assert names == ({"xy", "xz", "yz"} if name == "cone" else {"xy"})


def test_a_centre_beyond_the_detector_is_told_and_a_smaller_one_works(bench, clock):
    scan = Scan(FAN)
    bench = bench(clock=clock)
    bench.service.write("update_every", 1)
    bench.service.write("center_offset_px", FAN.cols / 2 + 1)  # before the scan is known
    bench.push(scan.header, *(scan.image(number) for number in range(3)))
    wait_until(lambda: bench.after(0.3) or bench.values["frames_refused"] == 3, what="3 refused frames")
    assert bench.values["state"] is State.ALARM
    assert "center_offset_px: expected at most half the detector, 16 columns, got 17" in bench.values["status"]
    bench.service.write("center_offset_px", 0.25)
    bench.frames(scan, *range(3, 3 + VIEWS))
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING
    assert bench.slices.wait(Slice).first_frame == 3


def test_a_reconstructor_that_is_behind_says_by_how_many_frames(bench, clock):
    scan = Scan(FAN)
    bench = bench(clock=clock)
    bench.push(scan.header)
    bench.frames(scan, *range(VIEWS))
    entered, leave = threading.Event(), threading.Event()
    told = SimpleNamespace(state=None, status="")

    def hold() -> None:
        entered.set()
        leave.wait(20)
        told.state, told.status = bench.service.health()  # as housekeeping would, before the frames are taken

    subscriber = bench.service._subscriber
    worker = threading.Thread(target=bench.service.ask, args=(hold, 30))
    worker.start()
    try:
        assert entered.wait(10)
        before = subscriber.received
        bench.push(*(scan.image(VIEWS + n) for n in range(7)))
        wait_until(lambda: subscriber.received >= before + 7, what="7 frames that wait")
        clock.now += 5
    finally:
        leave.set()
        worker.join()
    assert told.state is State.ALARM
    assert told.status.startswith("7 frames and 5 s behind")
    bench.push(scan.image(VIEWS + 7))
    bench.filtered.wait(Image, lambda image: image.frame == VIEWS + 7)  # all that waited are done
    bench.after(0.3)
    assert bench.values["state"] is State.RUNNING


@pytest.mark.parametrize(("behind_s", "updates"), [(0.1, 7), (0.5, 1), (5.0, 2)])
def test_frames_that_wait_go_before_slices_but_for_no_longer_than_a_second(bench, clock, behind_s, updates):
    """Hardly late: every frame has its slices. Late: one update at the end. Very late: one at once, one at the end."""
    scan = Scan(FAN)
    bench = bench(clock=clock)
    bench.service.write("update_every", 1)
    bench.push(scan.header)
    bench.frames(scan, *range(VIEWS))
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(20)

    subscriber = bench.service._subscriber
    worker = threading.Thread(target=bench.service.ask, args=(hold, 30))
    worker.start()
    try:
        assert entered.wait(10)
        before, made = subscriber.received, bench.values["slices_reconstructed"]
        bench.push(*(scan.image(VIEWS + n) for n in range(7)))
        wait_until(lambda: subscriber.received >= before + 7, what="7 frames that wait")
        clock.now += behind_s
    finally:
        leave.set()
        worker.join()
    bench.filtered.wait(Image, lambda image: image.frame == VIEWS + 6)
    pass_turns(bench.service)
    assert bench.values["frame_number_xy"] == VIEWS + 6
    assert bench.values["slices_reconstructed"] - made == updates
