"""How many threads the engines of a suite have: as many as the product's servers give to the same work."""

from __future__ import annotations

from typing import Literal

import numba
import torch
from numba.core import config

from tango_jit.cores import Budget, budget, usable_cores

Work = Literal["reconstruction", "pairs", "denoising", "training"]

_share = budget(usable_cores())


def begin(chosen: Budget) -> None:
    """From now on `use` goes by this budget; reconstruction comes first."""
    global _share
    _share = chosen
    use("reconstruction")


def use(work: Work) -> None:
    """From now on the engines (torch, and numba on this thread) have the threads of this kind of work.

    "reconstruction" is what the reconstructor does: frames by torch, slices by numba. "pairs": all that slices may
    have for both; the trainer makes its pairs on its own few threads, but the figure is one of the computer.
    """
    by_torch, by_numba = {
        "reconstruction": (_share.frames, _share.slices),
        "pairs": (_share.slices, _share.slices),
        "denoising": (_share.denoising, _share.denoising),
        "training": (_share.training, _share.training),
    }[work]
    torch.set_num_threads(by_torch)
    numba.set_num_threads(min(by_numba, config.NUMBA_NUM_THREADS))  # pyright: ignore[reportAttributeAccessIssue]
