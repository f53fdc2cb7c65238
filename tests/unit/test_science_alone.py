"""The science without its servers: on a machine without Tango, ZeroMQ, river, from a checkout that is not installed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
for name in ("tango", "zmq", "p4p", "msgspec", "river", "tifffile"):
    sys.modules[name] = None  # importing it now raises ImportError
sys.path.insert(0, sys.argv[1])
import numpy as np
from sim.projector import Projector
from sim.solids import Ellipsoids, Objects, cylinder
from tango_jit.geometry import ScanGeometry, default_slices
from tango_jit.learn import Denoiser, PatchSampler, Trainer
from tango_jit.recon.pipeline import Options, Pipeline
from tango_jit.recordings import open_recording
from tango_jit.streams import Header, Image

scan = ScanGeometry.cone(rows=256, cols=256, pixel_mm=0.5, source_axis_mm=250.0, source_detector_mm=500.0)
water = cylinder((0, 0, 0), (0, 0, 1), 25.0, 48.0, [0.02])
scene = Objects(Ellipsoids.balls([(0, 0, 0), (13, 0, 1)], [4.0, 5.0], [0.02]), (water,))
pipeline = Pipeline(Header("balls", "raw", scan, True), None, None, Options(), "cpu")
project, random = Projector(scan), np.random.default_rng(0)
for k in range(60):
    angle = 2 * np.pi * k / 60
    line = project.integrals(scene, angle)[0] + random.normal(0, 0.05, (scan.rows, scan.cols))
    image = Image("balls", k, angle, 0.0, line.astype(np.float32), None)
    pipeline.add(image, pipeline.filter(image))
window, slices = pipeline.window(), default_slices(scan, (64, 64))
trainer = Trainer()
size = trainer.settings.patch_size
poses = PatchSampler(scan, size).draw(8, default_slices(scan), window.matrices)
from tango_jit.recon.reconstructor import Reconstructor
trainer.add(Reconstructor(scan).reconstruct_pairs(window, poses, (size, size)))
trainer.step()
denoiser = Denoiser()
denoiser.load(trainer.weights())
even, odd = pipeline.reconstruct(window, slices["xz"])[:2, 0]
print("denoised", denoiser(even, odd).image.shape)
"""


def test_the_science_runs_without_tango_and_zeromq(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "denoised (64, 64)"
