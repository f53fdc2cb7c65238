"""The FDK weight: what each detector pixel is multiplied by before the ramp filter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango_jit.geometry import ScanGeometry


def fdk_gain(geometry: ScanGeometry) -> NDArray[np.float64]:
    """Factor of each detector pixel before the ramp filter, (rows, cols) in mm^-1.

    The FDK weight over the pixel pitch at the axis. With p the ray from the source s to the pixel, e the direction
    of the detector rows and m the magnification (all in the world frame, axis = z):

        weight = (-s . p)_xy / (|p| |(p x e)_z|)     times m for the real instead of the virtual detector at the axis

    which is distance/|p| for a centred source, has the right Jacobian for a source beside the beam axis, and is
    exact for a pitched or yawed detector. Parallel beams are the limit of a far source: 1/pitch across the ray.
    """
    source, centre, u, v = np.array([geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm])
    column = np.arange(geometry.cols) - (geometry.cols - 1) / 2
    row = np.arange(geometry.rows) - (geometry.rows - 1) / 2
    if geometry.beam == "parallel":
        ray, towards, scale = np.broadcast_to(source, (geometry.rows, geometry.cols, 3)), source, 1.0
    else:
        ray = centre - source + column[:, None] * u + row[:, None, None] * v
        towards = -source
        normal = np.cross(u, v)
        scale = (normal @ (centre - source)) / -(normal @ source)  # magnification
    length = np.linalg.norm(ray, axis=-1)
    across = np.abs(ray[..., 0] * u[1] - ray[..., 1] * u[0])
    return np.abs(ray[..., :2] @ towards[:2]) / (length * across) * scale**2
