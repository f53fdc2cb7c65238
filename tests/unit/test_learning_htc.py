"""Learning on a real scan, with a fixed number of seeded steps: the slice itself is compared, preset by preset.

How good it gets with time is measured by benchmarks/htc_learning.py.
"""

from collections.abc import Iterator

import numba
import pytest
import torch

from benchmarks.htc_learning import VIEWS, HtcScan, Learner
from tango_jit.learn import SETTINGS

PAIRS = 32
STEPS_PER_BATCH = 4


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(threads[0])
    numba.set_num_threads(threads[1])


@pytest.fixture(scope="module")
def scan(shared_data: object) -> HtcScan:
    return HtcScan()


def train(learner: Learner, steps: int) -> Learner:
    """Go on to `steps` steps altogether; the stream goes on with them."""
    while learner.trainer.steps < steps:
        learner.scan.send(VIEWS + learner.trainer.steps)
        learner.generate(PAIRS)
        for _ in range(STEPS_PER_BATCH):
            learner.trainer.step()
    return learner


def test_product_preset_gains_3_5_db(scan):
    learner = train(Learner(scan, SETTINGS["PRODUCT"]), 240)
    raw, denoised = learner.raw(), learner.test()
    assert denoised["psnr_db"] >= raw["psnr_db"] + 3.5
    assert denoised["psnr_strict_db"] >= raw["psnr_strict_db"] + 9
    assert denoised["accuracy"] < 0.6
    assert not denoised["guarded"]


@pytest.mark.parametrize("preset", ["PAPER", "RELEASED"])
def test_a_network_that_makes_the_slice_worse_does_no_harm(scan, preset):
    """Patches of 20 pixels without a halo teach the zeros around them, and their own figure falls all the while. What
    such a network knows nevertheless, of edges, is shown; the rest is not."""
    raw_db = Learner(scan, SETTINGS[preset]).raw()["psnr_db"]
    learner = train(Learner(scan, SETTINGS[preset]), 60)
    early = learner.test()
    late = train(learner, 160).test()
    assert late["patch_accuracy"] < early["patch_accuracy"] / 2
    assert early["guarded"]
    assert early["psnr_shown_db"] == raw_db
    assert late["psnr_db"] < raw_db - 1
    assert late["psnr_shown_db"] > raw_db + 3
