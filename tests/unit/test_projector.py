"""Line integrals of quadrics against closed forms and brute force; cuts through them against their definition."""

from dataclasses import replace

import numpy as np
import pytest

from sim.projector import Projector, paint
from sim.solids import Array, Ellipsoids, Objects, Solid, cylinder, ellipsoid, tablet
from tango_jit.geometry import ScanGeometry, SliceGeometry

CONE = ScanGeometry.cone(rows=31, cols=41, pixel_mm=3.0, source_axis_mm=200.0, source_detector_mm=350.0)
TILTED = ScanGeometry.cone(
    rows=31,
    cols=41,
    pixel_mm=3.0,
    source_axis_mm=200.0,
    source_detector_mm=350.0,
    axis_column=17.3,
    mid_row=14.2,
    source_offset_mm=(2.0, -5.0),
    roll_rad=0.05,
    pitch_rad=0.1,
    yaw_rad=-0.07,
)
PARALLEL = ScanGeometry.parallel(rows=31, cols=41, pixel_mm=1.7, axis_column=19.0)
GEOMETRIES = [CONE, TILTED, PARALLEL]
AXIS = (0.3, -0.2, 1.0)


def mixture(seed: int = 5) -> Objects:
    """Balls, tilted discs, a vessel on the axis and a few solids off it; some overlap, which changes nothing here."""
    random = np.random.default_rng(seed)
    centers, radii = random.uniform(-20, 20, (12, 3)), random.uniform(1, 6, 12)
    axes = random.normal(size=(12, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return Objects(
        Ellipsoids.spheroids(centers, radii, random.uniform(0.3, 1, 12), axes, [0.02]),
        (
            cylinder((0, 0, 0), (0, 0, 1), 25.0, 44.0, [0.03]),
            cylinder((0, 0, 1), (0, 0, 1), 23.0, 40.0, [-0.01]),
            tablet((4, -3, -8), AXIS, 9.0, 7.0, 0.6, [0.05]),
            cylinder((-9, 5, 3), AXIS, 4.0, 11.0, [0.04]),
            ellipsoid((6, 7, 4), AXIS, (3.0, 5.0, 2.0), [-0.02]),
        ),
    )


def inside(objects: Objects, points: Array) -> Array:
    """Excess attenuation (n,) at points (n, 3), by the definition of each solid."""
    value = np.zeros(len(points))
    balls = objects.ellipsoids
    for center, form, excess in zip(balls.centers_mm, balls.forms, balls.excess_per_mm[:, 0], strict=True):
        moved = points - center
        value += excess * (np.einsum("ni,ij,nj->n", moved, form, moved) <= 1)
    for solid in objects.solids:
        value += solid.excess_per_mm[0] * solid.contains(points)
    return value


def ray(geometry: ScanGeometry, angle: float, row: int, col: int) -> tuple[Array, Array]:
    """Point nearest to the origin and unit direction, from the ASTRA vectors of the turned scanner."""
    source, detector, u, v = geometry.vectors(angle).reshape(4, 3)
    pixel = detector + (col - (geometry.cols - 1) / 2) * u + (row - (geometry.rows - 1) / 2) * v
    along = pixel - source if geometry.beam == "cone" else source
    along = along / np.linalg.norm(along)
    return pixel - (pixel @ along) * along, along


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_line_integrals_agree_with_quadrature(geometry: ScanGeometry) -> None:
    """Ray by ray, in steps of 2 µm: an independent way."""
    objects, angle, random = mixture(), 2.1, np.random.default_rng(5)
    integral = Projector(geometry).integrals(objects, angle)[0]
    steps = np.linspace(-60, 60, 60001)
    steps = (steps[1:] + steps[:-1]) / 2
    for row, col in random.choice(np.argwhere(integral > 0.05), 25, replace=False):
        nearest, along = ray(geometry, angle, row, col)
        quadrature = inside(objects, nearest + steps[:, None] * along).sum() * (steps[1] - steps[0])
        assert integral[row, col] == pytest.approx(quadrature, abs=1e-4)


def test_every_ray_agrees_with_the_formula() -> None:
    """All rays, level ones and tangents too, in float64 from the quadratic equation of each quadric."""
    objects, angle = mixture(), -0.4
    integral = Projector(CONE).integrals(objects, angle)[0]
    expected = np.zeros_like(integral, np.float64)
    balls = objects.ellipsoids
    parts = [
        Solid(c[None], f[None], e, c, 1.0)
        for c, f, e in zip(balls.centers_mm, balls.forms, balls.excess_per_mm, strict=True)
    ]
    for row in range(CONE.rows):
        for col in range(CONE.cols):
            start, along = ray(CONE, angle, row, col)
            for solid in (*parts, *objects.solids):
                enter, leave = -1e6, 1e6
                for center, form in zip(solid.centers_mm, solid.forms, strict=True):
                    w = start - center
                    a, b, c = along @ form @ along, along @ form @ w, w @ form @ w - 1
                    if a < 1e-14:
                        leave = leave if c <= 0 else -1e6
                    elif b * b <= a * c:
                        leave = -1e6
                    else:
                        root = np.sqrt(b * b - a * c)
                        enter, leave = max(enter, (-b - root) / a), min(leave, (-b + root) / a)
                expected[row, col] += solid.excess_per_mm[0] * max(leave - enter, 0)
    np.testing.assert_allclose(integral, expected, atol=2e-6)


@pytest.mark.parametrize("geometry", [CONE, PARALLEL])
def test_ray_through_the_centre_of_a_ball(geometry: ScanGeometry) -> None:
    objects = Objects(Ellipsoids.balls([(0, 0, 0)], [7.0], [0.03]), ())
    integral = Projector(replace(geometry, detector_mm=(0.0, 150.0, 0.0))).integrals(objects, 0.4)[0]
    assert integral[15, 20] == pytest.approx(0.03 * 2 * 7.0, rel=1e-6)
    assert integral.max() == integral[15, 20]
    assert (integral >= 0).all()


def test_ray_through_the_middle_of_a_vessel() -> None:
    vessel = (cylinder((0, 0, 0), (0, 0, 1), 26.0, 44.0, [0.04]), cylinder((0, 0, 0), (0, 0, 1), 24.5, 44.0, [-0.02]))
    integral = Projector(CONE).integrals(Objects(Ellipsoids.none(1), vessel), 1.0)[0]
    assert integral[15, 20] == pytest.approx(2 * (24.5 * 0.02 + 1.5 * 0.04), rel=1e-6)
    assert integral[0, 0] == 0.0


def test_a_ball_around_the_source_side_of_the_detector_edge_is_cut() -> None:
    """Partly beside the detector: what is on it stays right."""
    wide = ScanGeometry.cone(rows=31, cols=81, pixel_mm=3.0, source_axis_mm=200.0, source_detector_mm=350.0)
    objects = Objects(
        Ellipsoids.balls([(35.0, 3.0, 20.0)], [9.0], [0.03]), (tablet((30, 9, -20), AXIS, 9, 7, 0.6, [1.0]),)
    )
    both = [Projector(geometry).integrals(objects, 0.2)[0] for geometry in (CONE, wide)]
    np.testing.assert_allclose(both[0], both[1][:, 20:61], atol=1e-5)
    assert both[0][:, -1].max() > 0.1


def test_what_is_outside_the_beam_is_not_seen() -> None:
    objects = Objects(Ellipsoids.balls([(0.0, 0.0, 90.0), (120.0, 0.0, 0.0)], [5.0, 5.0], [1.0]), ())
    assert not Projector(CONE).integrals(objects, 0.0).any()


def test_standing_solids_are_projected_again_when_they_change() -> None:
    project = Projector(CONE)
    for radius in (10.0, 12.0, 10.0):
        objects = Objects(Ellipsoids.none(1), (cylinder((0, 0, 0), (0, 0, 1), radius, 90.0, [0.01]),))
        assert project.integrals(objects, 0.7)[0][15, 20] == pytest.approx(0.02 * radius, rel=1e-6)


def test_what_stands_on_the_axis_at_one_moment_alone_moves_all_the_same() -> None:
    """A ball that swings through the axis is projected where it is, moment by moment."""
    project = Projector(CONE)
    moments = [
        Objects(Ellipsoids.none(1), (ellipsoid((x, 0, z), (0, 0, 1), (6, 6, 6), [0.05]),))
        for x, z in ((0.0, 0.0), (0.0, 9.0), (7.0, 0.0))
    ]
    expected = np.mean([np.exp(-project.integrals(m, 0.3)[0].astype(np.float64)) for m in moments], axis=0)
    np.testing.assert_allclose(project.transmission(moments, [0.3, 0.3, 0.3]), expected, rtol=5e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_transmission_is_the_mean_over_moments_and_energies(geometry: ScanGeometry) -> None:
    project, angles = Projector(geometry), [0.1, 0.13, 0.2]
    moments = [
        Objects(
            Ellipsoids(m.ellipsoids.centers_mm, m.ellipsoids.forms, np.tile([0.02, 0.05], (12, 1))),
            tuple(replace(solid, excess_per_mm=solid.excess_per_mm[0] * np.array([1.0, 0.6])) for solid in m.solids),
        )
        for m in (mixture(1), mixture(2), mixture(3))
    ]
    weights = (0.3, 0.7)
    integrals = np.stack([project.integrals(m, a) for m, a in zip(moments, angles, strict=True)]).astype(np.float64)
    expected = (np.exp(-integrals) * np.array(weights)[None, :, None, None]).sum(axis=1).mean(axis=0)
    np.testing.assert_allclose(project.transmission(moments, angles, weights), expected, rtol=5e-6)


def test_dense_rays_let_nothing_through() -> None:
    wall = Objects(Ellipsoids.balls([(0, 0, 0)], [20.0], [5.0]), ())
    through = Projector(CONE).transmission([wall], [0.0])
    assert 0 <= through[15, 20] < 1e-15
    assert through[0, 0] == 1.0


@pytest.mark.parametrize("v", [(0.0, 0.0, -40.0), (3.0, 20.0, -31.0)])
def test_cuts_show_what_contains_a_pixel_centre(v: tuple[float, float, float]) -> None:
    objects = mixture()
    place = SliceGeometry((-21.0, -4.0, 19.0), (43.0, 5.0, 2.0), v, 83, 97)
    np.testing.assert_allclose(paint(objects, place), inside(objects, place.points().reshape(-1, 3)).reshape(83, 97))


def test_cut_weighs_energies() -> None:
    objects = Objects(Ellipsoids.balls([(0, 0, 0)], [5.0], [0.02, 0.06]), ())
    place = SliceGeometry.centered((0, 0, 0), (1, 0, 0), (0, 1, 0), pixel_mm=1.0, shape=(5, 5))
    assert paint(objects, place, (0.25, 0.75))[2, 2] == pytest.approx(0.05)
