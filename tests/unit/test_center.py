"""FindCenter: the given centres of real scans are found again from a wrong start."""

import numpy as np
import pytest

from sim.record import record
from sim.scenario import load
from tango_jit.recon.center import find_center
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.window import ProjectionWindow
from tango_jit.recordings import open_recording
from tests.real_scans import htc_stream, tooth, walnut


def window_of(path, shift_px: float, views: int | None = None):
    """The first full window of a recording, with the axis `shift_px` columns beside its place."""
    with open_recording(path) as source:
        header = source.header
        geometry = header.geometry.shifted(shift_px)
        dark, flat = (None if field is None else field.mean for field in (source.dark, source.flat))
        preprocess = Preprocessor(geometry, linear=header.linear, dark=dark, flat=flat)
        window = ProjectionWindow(geometry)
        for index in range(views or len(source)):
            image = source.frame(index)
            window.add(image.frame, image.angle_rad, preprocess(np.asarray(image.data)[None])[0])
    full = window.window()
    assert full is not None
    return full, geometry


@pytest.mark.parametrize(("scan", "views"), [(htc_stream, 180), (walnut, None), (tooth, None)])
def test_the_given_centre_is_found_again(shared_data, tmp_path, scan, views):
    window, geometry = window_of(scan(tmp_path), -6.3, views)
    *_, last = find_center(window, geometry, reach_px=8)
    assert last.progress == 1
    assert last.shift_px == pytest.approx(6.3, abs=0.3)


@pytest.mark.parametrize("shift_px", [8.0, -3.0, 15.0])
def test_moving_balls_are_centred_from_far_away(tmp_path, shift_px):
    """Their side lobes, 3.5 pixels away, are nearly as sharp."""
    path = tmp_path / "balls.nxs"
    record(load("balls").with_(seed=1), path, frames=150)
    window, geometry = window_of(path, shift_px)
    *_, last = find_center(window, geometry)
    assert last.shift_px == pytest.approx(-shift_px, abs=0.4)


def test_progress_grows_and_the_window_may_go_on(shared_data, tmp_path):
    window, geometry = window_of(walnut(tmp_path), 1.0)
    search = find_center(window, geometry, reach_px=4)
    first = next(search)
    newer = np.full(window.projections.shape[1:], 1e3, np.float32)
    for slot in window.slots:
        window.projections.put(slot, newer)  # the ring is used for newer frames meanwhile
    rest = list(search)
    progress = [first.progress, *(s.progress for s in rest)]
    assert progress == sorted(progress)
    assert rest[-1].shift_px == pytest.approx(-1.0, abs=0.3)
