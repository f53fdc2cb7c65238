"""The backend astra on a CUDA device: any slice and any beam, and ASTRA's own FDK against our whole chain."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.recon import backproject
from tango_jit.recon.backproject import astra as ours
from tango_jit.recon.backproject import reference
from tango_jit.recon.preprocess import Preprocessor
from tango_jit.recon.volume import VolumeGeometry, volume
from tests.phantom import ball, turn
from tests.reconstructions import window_of


@pytest.fixture(autouse=True)
def astra() -> Any:
    if why := backproject.obstacle("astra"):
        pytest.skip(f"backend astra: {why}")
    astra = import_module("astra")
    if not astra.use_cuda():
        pytest.skip("ASTRA finds no CUDA device")
    return astra


SIZE: dict[str, Any] = dict(rows=60, cols=80, pixel_mm=1.2)
CONE = ScanGeometry.cone(**SIZE, source_axis_mm=200, source_detector_mm=300)
SCANS = {
    "cone": CONE,
    "tilted": ScanGeometry.cone(
        **SIZE, source_axis_mm=200, source_detector_mm=300, axis_column=35.0, roll_rad=0.05, yaw_rad=0.1
    ),
    "parallel": ScanGeometry.parallel(**SIZE, pitch_rad=0.1),
}


@pytest.mark.parametrize("kind", SCANS)
@pytest.mark.parametrize("slices", [1, 5])
def test_oblique_stacks_agree_with_the_reference_to_a_percent(kind: str, slices: int) -> None:
    scan, angles = SCANS[kind], turn(30)
    views = Preprocessor(scan, linear=True)(ball(scan, angles, (4, -6, 3), 9, 0.05))
    weights = np.zeros((2, 30), np.float32)
    weights[0, ::2] = weights[1, 1::2] = 0.2
    place = SliceGeometry.centered((4, -5, 2), (1, 0.3, 0.2), (0.3, -1, 0.4), pixel_mm=0.5, shape=(40, 50))
    poses = VolumeGeometry(place, (0.1, 0.2, -0.5), slices).poses
    arguments = views, np.arange(30), scan.matrices(angles), weights, poses, place.shape
    expected, got = reference.backproject(*arguments), ours.backproject(*arguments)
    assert np.abs(got - expected).max() < 0.01 * np.abs(expected).max()


def test_our_chain_agrees_with_their_fdk(astra: Any) -> None:
    """A ball off the mid-plane: the mean of its inside to 1 %, everything to 3 % of its value."""
    angles, size = turn(180), 64
    views = ball(CONE, angles, (4, -6, 3), 9, 0.05)
    first = SliceGeometry.centered((0, 0, -15.75), (1, 0, 0), (0, 1, 0), pixel_mm=0.5, shape=(size, size))
    expected = volume(window_of(CONE, range(180), angles, views), CONE, VolumeGeometry(first, (0.0, 0.0, 0.5), size))
    reach = size / 4
    geometry = astra.create_proj_geom("cone", 1.2, 1.2, CONE.rows, CONE.cols, angles, 200.0, 100.0)
    box = astra.create_vol_geom(size, size, size, *(-reach, reach) * 3)
    given = astra.data3d.create("-sino", geometry, np.ascontiguousarray(views.transpose(1, 0, 2)))
    made = astra.data3d.create("-vol", box)
    config = astra.astra_dict("FDK_CUDA") | {"ProjectionDataId": given, "ReconstructionDataId": made}
    astra.algorithm.run(astra.algorithm.create(config))
    theirs = astra.data3d.get(made)
    astra.clear()
    z, y, x = (np.mgrid[:size, :size, :size] - (size - 1) / 2) * 0.5
    inside = np.sqrt((x - 4) ** 2 + (y + 6) ** 2 + (z - 3) ** 2) < 7
    assert expected[inside].mean() == pytest.approx(theirs[inside].mean(), rel=0.01)
    assert np.sqrt(((theirs - expected) ** 2).mean()) < 0.03 * 0.05
