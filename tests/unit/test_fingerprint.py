"""Fingerprints of noise: what they are made from, how far apart they are, and that they travel with a checkpoint."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tango_jit.geometry import ScanGeometry, default_slices
from tango_jit.learn.fingerprint import Fingerprint, fingerprint, relative_noise, stamp, stamped
from tango_jit.learn.weights import from_checkpoint, to_checkpoint, unpack
from tests.training import pairs, trained

pytestmark = pytest.mark.usefixtures("one_thread")

CONE = ScanGeometry.cone(rows=64, cols=64, pixel_mm=0.2, source_axis_mm=100, source_detector_mm=250)
SOME = Fingerprint("cone", "hann", 100.0, 250.0, 0.2, 64, 180, 0.08, 0.1)


def images(noise: float = 0.3, level: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(level * pairs(64, noise=noise))


def found(geometry: ScanGeometry = CONE, **changes: object) -> Fingerprint:
    arguments: dict = {"filter": "hann", "views": 180, "places": default_slices(geometry).values()}
    made = fingerprint(geometry, **{**arguments, "pairs": images(), "split": "halves", **changes})
    assert made is not None
    return made


def test_it_says_what_the_scanner_is():
    cone = found()
    assert (cone.beam, cone.filter, cone.columns, cone.views) == ("cone", "hann", 64, 180)
    assert (cone.source_axis_mm, cone.source_detector_mm) == (pytest.approx(100), pytest.approx(250))
    assert cone.detector_pixel_mm == pytest.approx(0.2)
    assert cone.pixel_mm == pytest.approx(next(iter(default_slices(CONE).values())).pixel_mm[0])
    assert found(places=()).pixel_mm == pytest.approx(CONE.voxel_mm)
    parallel = found(ScanGeometry.parallel(rows=8, cols=64, pixel_mm=0.1), filter=None)
    assert (parallel.source_axis_mm, parallel.source_detector_mm, parallel.filter) == (0, 0, "")


def test_a_scanner_seen_from_another_side_is_the_same():
    turned = ScanGeometry.from_astra("cone", CONE.vectors(0.7)[0], rows=64, cols=64)
    assert found(turned, places=default_slices(CONE).values()).distance(found()) == pytest.approx(0, abs=1e-6)


def test_noise_is_that_of_a_whole_slice_as_part_of_the_contrast_whatever_the_unit():
    for level in (1.0, 0.02):
        halves, turns = (relative_noise(images(0.3, level), split) for split in ("halves", "turns"))
        assert turns == pytest.approx(0.3 / 1.7, rel=0.2)  # the contrast is 1 and what the noise adds to it
        assert turns is not None
        assert halves == pytest.approx(turns / math.sqrt(2))


def test_a_minority_of_pairs_that_move_does_not_count():
    moved = images()
    moved[:10, 0] += 0.5
    assert relative_noise(moved, "turns") == pytest.approx(relative_noise(images(), "turns"), rel=0.15)


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_pairs_that_say_nothing_have_none(value):
    nothing = torch.full((8, 2, 16, 16), value)
    assert relative_noise(nothing, "turns") is None
    assert fingerprint(CONE, filter="hann", views=180, places=(), pairs=nothing, split="turns") is None


@pytest.mark.parametrize("name", ["noise", "views", "pixel_mm"])
def test_twice_of_what_matters_is_a_distance_of_one(name):
    other = replace(SOME, **{name: 2 * getattr(SOME, name)})
    assert SOME.distance(other) == other.distance(SOME) == pytest.approx(1)


def test_distances():
    assert SOME.distance(SOME) == 0
    assert SOME.distance(replace(SOME, filter="ram-lak")) == pytest.approx(1)
    assert SOME.distance(replace(SOME, columns=128)) == pytest.approx(0.25)
    parallel = replace(SOME, beam="parallel", source_axis_mm=0.0, source_detector_mm=0.0)
    assert SOME.distance(parallel) == parallel.distance(SOME) == pytest.approx(1)
    assert SOME.distance(replace(SOME, noise=0.2, views=90)) == pytest.approx(math.sqrt(2))


def test_it_travels_with_a_checkpoint_that_is_read_as_before():
    weights = trained(8).weights()
    plain = to_checkpoint(weights)
    data = stamped(plain, SOME)
    assert stamp(plain) is None
    assert stamp(data) == SOME
    assert stamp(stamped(data, found())) == found()
    read = from_checkpoint(data)
    assert (read.version, read.scale, read.network) == (weights.version, weights.scale, weights.network)
    before, after = unpack(weights).state_dict(), unpack(read).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("data", [b"", b"no checkpoint at all", b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_checkpoint_is_refused(data):
    with pytest.raises(ValueError, match="fingerprint: expected a safetensors file"):
        stamp(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise": None}, "noise"),
        ({"views": True}, "views"),
        ({"beam": "fan"}, "beam"),
        ({"pixel_mm": np.inf}, "pixel"),
    ],
)
def test_nonsense_is_refused_in_words(change, words):
    with pytest.raises(ValueError, match=f"fingerprint: .*{words}"):
        Fingerprint.from_dict({**asdict(SOME), **change})


def test_missing_fields_are_refused():
    with pytest.raises(ValueError, match="fingerprint: expected the fields"):
        Fingerprint.from_dict({"beam": "cone"})
