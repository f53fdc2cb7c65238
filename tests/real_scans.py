"""Real recorded scans as NXtomo files, for the tests that need measured data.

`tests/shared_data.py` says where the data lie; a README beside them says where they come from, and their geometry and
centres of rotation. They are never copied into the project: each function converts one of them into a folder of the
caller's. A test that calls them asks for the fixture `shared_data`, which skips it where the data are absent.

Images keep the orientation of the README's formulas: detector columns along +u, angles as recorded. Where the file
says nothing about the pixel size (tooth, Savu, dendrite) it is set to 1 mm, so that attenuation comes out per pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import tifffile
from numpy.typing import NDArray
from PIL import Image as Picture

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import NXtomoWriter
from tango_jit.streams.messages import Dark, Flat, Header, Image
from tests.shared_data import data_folder

HTC_PIXEL_MM = 0.148322
"""Pixel of the organisers' 512 x 512 reconstruction, at the axis; its values are attenuation (1/mm) times this."""
HTC_VIEWS = 720
HTC_ROTATIONS = 4
"""How many interleaved rotations `htc_stream` makes of the 720 views."""


def htc_geometry() -> ScanGeometry:
    """Fan beam: the mid-plane row of the laboratory cone-beam scanner."""
    return ScanGeometry.cone(
        rows=1, cols=560, pixel_mm=0.2, source_axis_mm=410.66, source_detector_mm=553.74, axis_column=279.5
    )


def htc_sinogram(name: str = "ta") -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(720, 560) -log data and the angles (720,) in rad. `name`: 01a 03c 05a 06a solid_disc ta tb."""
    scan = _matlab(data_folder() / "htc2022_fan" / f"htc2022_{name}_full.mat")["CtDataFull"]
    degrees = np.asarray(scan["parameters"]["angles"], np.float64)
    # The last view repeats the first, one turn on.
    return np.asarray(scan["sinogram"][:HTC_VIEWS], np.float32), np.deg2rad(degrees[:HTC_VIEWS])


def htc_reference() -> NDArray[np.float64]:
    """The organisers' reconstruction (512, 512) of `ta` in 1/mm: row 0 has the largest y, column 0 the smallest x."""
    image = _matlab(data_folder() / "htc2022_fan" / "htc2022_ta_full_recon_fbp.mat")["reconFullFbp"]
    return np.asarray(image, np.float64) / HTC_PIXEL_MM


def htc(folder: Path, name: str = "ta") -> Path:
    """All 720 views of one turn."""
    sinogram, angles = htc_sinogram(name)
    return _write(folder / f"htc_{name}.nxs", htc_geometry(), sinogram[:, None, :], angles, exposure_s=1.2)


def htc_order() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The 720 views as 4 interleaved rotations of 180: which view comes (720,), and its unwrapped angle in rad."""
    step = HTC_VIEWS // HTC_ROTATIONS
    rotation, place = np.divmod(np.arange(HTC_VIEWS), step)
    view = HTC_ROTATIONS * place + rotation
    return view, np.deg2rad(view * 0.5 + 360.0 * rotation)


def htc_stream(folder: Path, name: str = "ta") -> Path:
    """The 720 views as a stream: four rotations of 180 views each, interleaved, with unwrapped angles."""
    sinogram, _ = htc_sinogram(name)
    view, angles = htc_order()
    return _write(folder / f"htc_{name}_stream.nxs", htc_geometry(), sinogram[view][:, None, :], angles, exposure_s=1.2)


def walnut(folder: Path) -> Path:
    """Fan beam, 120 noisy views, detector off the middle; -log data in arbitrary units (here: / 65535)."""
    with Picture.open(data_folder() / "fips_walnut_fan" / "walnut_sinogram.png") as picture:
        sinogram = np.asarray(picture, np.float32).T / 65535  # stored (detector, view)
    geometry = ScanGeometry.cone(
        rows=1, cols=328, pixel_mm=0.35, source_axis_mm=110.0, source_detector_mm=300.0, axis_column=162.75
    )
    return _write(folder / "walnut.nxs", geometry, sinogram[:, None, :], np.deg2rad(3.0 * np.arange(120)))


def tooth_geometry() -> ScanGeometry:
    """Parallel beam, 2 rows; pixel size unknown."""
    return ScanGeometry.parallel(rows=2, cols=640, pixel_mm=1.0, axis_column=295.85)


def tooth(folder: Path) -> Path:
    """Parallel beam, raw counts with darks and flats, 181 views over half a turn."""
    with h5py.File(data_folder() / "tomopy_tooth" / "tooth.h5") as file:
        counts, dark, flat, degrees = (
            np.asarray(file[f"exchange/{name}"]) for name in ("data", "data_dark", "data_white", "theta")
        )
    return _write(folder / "tooth.nxs", tooth_geometry(), counts, np.deg2rad(degrees), dark=dark, flat=flat)


def savu(folder: Path) -> Path:
    """Parallel beam, 91 views of 135 x 160 over half a turn, 3-D: a dense pin in a cylinder, under a dome.

    Linear data: the flat is of another intensity, so that air is at 0.31 after -log; the mean of each view's left and
    right border is subtracted. (The tube's wall leaves the field of view there, so air is not quite 0.)
    """
    source = data_folder() / "savu_24737_tiff"
    raw = np.stack([tifffile.imread(source / f"raw_{view:05d}.tiff") for view in range(91)]).astype(np.float64)
    dark, flat = (tifffile.imread(source / f"{kind}_00001.tiff").astype(np.float64) for kind in ("dark", "flat"))
    with np.errstate(divide="ignore", invalid="ignore"):
        transmission = (raw - dark) / (flat - dark)
    transmission[:, 0, :4] = transmission[:, 1, :4]  # a time stamp is written over these pixels
    linear = -np.log(np.clip(transmission, 1e-3, None))
    border = np.concatenate([linear[:, :, :3], linear[:, :, -3:]], axis=2)
    linear -= border.mean(axis=(1, 2), keepdims=True)
    degrees = np.loadtxt(source / "angles.txt").ravel()[10:101]  # the others belong to darks and flats
    geometry = ScanGeometry.parallel(rows=135, cols=160, pixel_mm=1.0, axis_column=85.7)
    # Row 0 is the top of the object, +v of the geometry points upwards.
    return _write(folder / "savu.nxs", geometry, linear[:, ::-1].astype(np.float32), np.deg2rad(degrees))


def dendrite(folder: Path) -> Path:
    """Parallel beam, one row, 360 very noisy views over half a turn, at angles of many turns (292 rad and on)."""
    scan = _matlab(data_folder() / "dendrite_i12" / "RealDataDend.mat")
    sinogram = np.asarray(scan["sinoRD"], np.float32).T / 1000  # stored (detector, view), times 1000
    geometry = ScanGeometry.parallel(rows=1, cols=1260, pixel_mm=1.0, axis_column=627.0)
    return _write(folder / "dendrite.nxs", geometry, sinogram[:, None, :], np.ravel(scan["anglesRad"]))


def _matlab(path: Path) -> dict[str, Any]:
    return scipy.io.loadmat(path, simplify_cells=True)


def _write(
    path: Path,
    geometry: ScanGeometry,
    frames: NDArray[Any],
    angles_rad: Iterable[float],
    *,
    dark: NDArray[Any] | None = None,
    flat: NDArray[Any] | None = None,
    exposure_s: float | None = None,
) -> Path:
    """Frames (views, rows, cols) with darks and flats (n, rows, cols); without those the data are -log already."""
    series = path.stem
    header = Header(series, "raw", geometry, flat is None, exposure_s=exposure_s, name=series)

    def mean(stack: NDArray[Any]) -> NDArray[np.float32]:
        return stack.mean(axis=0, dtype=np.float64).astype(np.float32)

    means = (
        None if dark is None else Dark(series, mean(dark), len(dark)),
        None if flat is None else Flat(series, mean(flat), len(flat)),
    )
    with NXtomoWriter(path, header, *means) as writer:
        for number, (data, angle) in enumerate(zip(frames, angles_rad, strict=True)):
            writer.append(Image(series, number, float(angle), number * (exposure_s or 0.0), data, None))
    return path
