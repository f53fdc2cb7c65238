"""The preview volume of a running reconstructor: when it is made, of what, and that nothing waits for it."""

from __future__ import annotations

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import psutil
import pytest

from tango_jit.recon import backproject
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.recon.volume import field_of_view, volume
from tango_jit.services.preview import PreviewError, PreviewMaker
from tango_jit.services.spare_time import SpareTime
from tango_jit.streams import Slice, Volume
from tests.events import wait_until
from tests.reconstructions import window_of
from tests.services.conftest import CONE, FAN, MU_PER_MM, STEP_RAD, VIEWS, Scan, pass_turns
from tests.services.test_reconstructor_service import filled

SIZE = 24


LARGE = 192  # the better part of a second of work


def with_previews(bench, *, size=SIZE, every_s=0.0):
    bench.service.write("preview_size", size)
    bench.service.write("preview_every_s", every_s)
    bench.slices.join(bench.service._slices_out)  # for larger volumes it binds anew
    return bench


def test_the_first_full_window_is_shown_as_a_volume(bench):
    scan = Scan(CONE)
    bench = filled(with_previews(bench(), every_s=60), scan)
    message = bench.slices.wait(Volume)
    place = field_of_view(CONE, SIZE)
    window = window_of(CONE, range(VIEWS), STEP_RAD * np.arange(VIEWS), scan.views)
    np.testing.assert_allclose(message.data, volume(window, CONE, place), atol=1e-3 * MU_PER_MM)
    assert (message.geometry, message.step_mm) == (place.first, place.step_mm)
    assert (message.series, message.first_frame, message.last_frame) == (scan.series, 0, VIEWS - 1)
    assert message.generation == bench.values["generation"]
    wait_until(lambda: bench.values["preview_frame_number"] == VIEWS - 1, what="the preview's number")
    values = bench.values
    np.testing.assert_array_equal(values["preview"].reshape(-1, SIZE, SIZE), message.data)
    np.testing.assert_array_equal(values["preview_geometry"], place.twelve)
    assert values["preview_progress"] == 100
    assert values["preview_ms"] > 0


def test_a_fan_has_a_preview_of_one_slice(bench):
    bench = filled(with_previews(bench(), every_s=60), Scan(FAN))
    assert bench.slices.wait(Volume).data.shape == (1, SIZE, SIZE)
    wait_until(lambda: bench.values["preview"].shape == (SIZE, SIZE), what="the preview")


def test_a_preview_comes_when_asked_for_and_not_before_the_window_is_full(bench):
    scan = Scan(CONE)
    bench = with_previews(bench())
    with pytest.raises(ValueError, match="MakePreview: expected a full window, got 0% of it"):
        bench.service.make_preview()
    bench.push(scan.header)
    bench.frames(scan, *range(3))
    with pytest.raises(ValueError, match="MakePreview: expected a full window"):
        bench.service.make_preview()
    bench.frames(scan, *range(3, VIEWS))
    pass_turns(bench.service)
    assert bench.values["preview_frame_number"] == -1
    assert bench.values["preview"].size == 0
    bench.service.make_preview()
    assert bench.slices.wait(Volume).last_frame == VIEWS - 1


def test_a_preview_is_made_every_so_often_if_there_are_new_frames(bench, clock):
    scan = Scan(CONE)
    bench = filled(with_previews(bench(clock=clock), every_s=10), scan)
    bench.slices.wait(Volume)
    bench.after(11)
    bench.frames(scan, VIEWS)
    bench.slices.wait(Volume, lambda message: message.last_frame == VIEWS)
    bench.after(11)  # the same window would be shown again
    bench.frames(scan, VIEWS + 1)
    bench.slices.wait(Volume, lambda message: message.last_frame == VIEWS + 1)
    bench.frames(scan, VIEWS + 2)  # too early
    pass_turns(bench.service)
    assert [message.last_frame for message in bench.slices.all(Volume)] == [VIEWS - 1, VIEWS, VIEWS + 1]


class Held:
    """The reconstructor's preview after its first part, until it is let go: the worker does all else meanwhile."""

    def __init__(self, bench, monkeypatch) -> None:
        self.maker = bench.service._spare_time.preview
        step = self.maker.step
        self.going = False

        def held(*arguments):
            return None if self.maker.busy and not self.going else step(*arguments)

        monkeypatch.setattr(self.maker, "step", held)
        bench.service.make_preview()
        wait_until(lambda: self.maker.busy, what="a preview that has begun")


def test_slices_do_not_wait_for_a_preview(bench, monkeypatch):
    """Those of frames that came after the preview began are out before it is, and it is of its own window."""
    scan = Scan(CONE)
    bench = filled(with_previews(bench(), size=LARGE), scan)
    held = Held(bench, monkeypatch)
    bench.frames(scan, VIEWS, VIEWS + 1)
    bench.slices.wait(Slice, lambda slice: slice.last_frame == VIEWS + 1)
    assert not bench.slices.all(Volume)
    held.going = True
    assert bench.slices.wait(Volume).last_frame == VIEWS - 1


def test_what_is_asked_for_comes_though_frames_always_wait(bench, monkeypatch):
    """On a machine that is too slow for its frames a preview takes its turn, beside slices that are always due."""
    scan = Scan(CONE)
    bench = filled(with_previews(bench(), size=SIZE), scan)
    updates, steps, spare = [], [], bench.service._spare_time
    update, step = bench.service._update, spare.step
    monkeypatch.setattr(bench.service, "_due", lambda: True)
    monkeypatch.setattr(bench.service, "_update", lambda: updates.append(update()))
    monkeypatch.setattr(spare, "step", lambda *arguments: steps.append(1) or step(*arguments))
    bench.service.make_preview()
    assert bench.slices.wait(Volume).last_frame == VIEWS - 1
    assert 0 < len(steps) < len(updates) / 2


def test_steps_are_a_tenth_of_the_time_where_frames_wait(monkeypatch):
    spare, now = SpareTime("cpu"), time.monotonic()
    spare._stepped_s, spare._took_s = now, 0.004
    for after, late in ((0.09, False), (0.11, True)):
        monkeypatch.setattr(time, "monotonic", lambda after=after: now + after)
        assert spare.has_turn(frames_wait=True) is late
        assert spare.has_turn(frames_wait=False)
    spare._took_s = 0.3
    monkeypatch.setattr(time, "monotonic", lambda: now + 2.9)
    assert not spare.has_turn(frames_wait=True)
    monkeypatch.setattr(time, "monotonic", lambda: now + 3.1)
    assert spare.has_turn(frames_wait=True)


def test_another_filter_makes_the_preview_anew(bench, monkeypatch):
    """Of the new filling of the window alone, and without being asked again."""
    scan = Scan(CONE)
    bench = filled(with_previews(bench(), size=LARGE), scan)
    held = Held(bench, monkeypatch)
    bench.service.write("filter", "HANN")
    bench.service.write("preview_size", SIZE)
    bench.push(scan.image(VIEWS))
    wait_until(lambda: not held.maker.busy, what="a preview that was broken off")
    held.going = True
    bench.frames(scan, *range(VIEWS + 1, 2 * VIEWS))
    message = bench.slices.wait(Volume)
    assert (message.first_frame, message.data.shape) == (VIEWS, (SIZE,) * 3)
    assert bench.slices.all(Volume) == [message]


@pytest.mark.skipif(bool(backproject.obstacle("astra")), reason=backproject.obstacle("astra"))
def test_a_volume_that_the_backend_cannot_show_is_told(bench):
    """On the processor ASTRA works in two dimensions: of a cone it can show the mid-plane alone."""
    scan = Scan(CONE)
    bench = with_previews(bench(backend="astra"))
    bench.service.write("update_every", 1)
    bench.push(scan.header)
    bench.frames(scan, *range(VIEWS))
    bench.service.make_preview()
    wait_until(lambda: "preview: slice: expected one on a single detector row" in bench.values["last_error"])


def finish(maker, pipeline, size):
    """All steps of the preview that was asked for."""
    while (preview := maker.step(pipeline, size, 0.0, 0.0, 0.0)) is None:
        assert maker.busy
    return preview


def preview_of_too_much() -> None:
    """64 MB with 16 MB to be had. What is asked for afterwards is made."""
    scan, maker = Scan(CONE), PreviewMaker("cpu")
    pipeline = Pipeline(scan.header, None, None, Options(), "cpu")
    for number in range(VIEWS):
        image = scan.image(number)
        pipeline.add(image, pipeline.filter(image))
    maker.begin()
    maker.step(pipeline, 256, 0.0, 0.0, 0.0)
    used, (soft, hard) = psutil.Process().memory_info().vms, resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), hard))
    try:
        with pytest.raises(PreviewError, match="preview: Unable to allocate 64"):
            finish(maker, pipeline, 256)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert not maker.busy
    assert maker.step(pipeline, SIZE, 0.0, 0.0, 0.0) is None
    maker.begin()
    assert finish(maker, pipeline, SIZE).data.shape == (SIZE,) * 3


def test_memory_that_does_not_suffice_for_a_preview_is_no_fault_of_the_backend():
    """The system refuses it. In a process of its own: what other tests leave behind and free meanwhile is room."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        alone.submit(preview_of_too_much).result()


def test_frames_that_are_faster_than_the_reading_make_it_read_more_at_once():
    """Straight at the maker: the window turns round completely between two steps, until one step reads all of it."""
    scan, maker = Scan(CONE), PreviewMaker("cpu")
    pipeline = Pipeline(scan.header, None, None, Options(), "cpu")
    maker._part_pixels = 1  # a view at a time
    frame, steps, preview = 0, 0, None

    def turn(frame: int) -> int:
        for number in range(frame, frame + 2 * VIEWS):
            image = scan.image(number)
            pipeline.add(image, pipeline.filter(image))
        return frame + 2 * VIEWS

    frame = turn(frame)
    maker.begin()
    while preview is None:
        assert steps < 100, "it never reads fast enough"
        preview = maker.step(pipeline, SIZE, 0.0, 5.0, 0.0)
        reading = maker.busy and maker.progress < 0.25
        frame = turn(frame) if reading else frame
        steps += 1
    assert (preview.last_frame, preview.timestamp_s) == (frame - 1, 5.0)
    window = pipeline.window()
    assert window is not None
    expected = volume(window, CONE, field_of_view(CONE, SIZE))
    np.testing.assert_allclose(preview.data, expected, atol=1e-3 * MU_PER_MM)
