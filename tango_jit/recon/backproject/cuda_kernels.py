"""The CUDA sources beside this file: compiled for the device at hand, launched on torch's current stream.

CuPy compiles them (NVRTC) and keeps the result in its cache on disk, ~/.cupy/kernel_cache.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tango_jit.recon.backproject.arguments import MIN_DEPTH

TILE = 16  # pixels along both sides of what a block works on
PLANES = 4  # that one thread sums
CHUNK = 128  # views that a block looks at together; the memory for it is shared by its threads
OLDEST = (7, 5)  # compute capability (Turing): the oldest that CUDA 13 compiles for

SOURCES = {path.stem: path for path in Path(__file__).parent.glob("*.cu")}
OPTIONS = (
    "--std=c++17",
    f"-DTILE={TILE}",
    f"-DPLANES={PLANES}",
    f"-DCHUNK={CHUNK}",
    f"-DMIN_DEPTH={MIN_DEPTH}f",
)


def obstacle() -> str:
    """Why nothing can run on a CUDA device here, in words; empty: it can."""
    try:
        import_module("cupy")
    except ImportError as error:
        return f"it needs CuPy (the extra cuda), which cannot be loaded: {error}"
    if torch.version.cuda is None:
        return f"it needs a PyTorch with CUDA, this one ({torch.__version__}) was built without"
    try:
        torch.cuda.init()
    except RuntimeError as error:  # no driver, a driver that is too old, no device
        return f"it needs an NVIDIA driver and a device: {error}"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST:
        name, number = torch.cuda.get_device_name(), ".".join(map(str, capability))
        return f"it needs a device of compute capability 7.5 or more, {name} has {number}"
    return ""


@cache
def kernel(source: str, name: str) -> Any:
    """The kernel `name` of the file `source`.cu, compiled."""
    return _module(source).get_function(name)


@cache
def _module(source: str) -> Any:
    return import_module("cupy").RawModule(code=SOURCES[source].read_text(), options=OPTIONS)


def launch(
    kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: int | torch.Tensor | np.integer | None
) -> None:
    """Queue a kernel on torch's current stream.

    Whole numbers are passed as 32 bits (`np.uint64` for handles), tensors as their address, None as a null pointer.
    """
    stream = SimpleNamespace(ptr=torch.cuda.current_stream().cuda_stream)
    kernel(grid, block, tuple(_passed(argument) for argument in arguments), stream=stream)


def _passed(argument: int | torch.Tensor | np.integer | None) -> np.integer:
    if argument is None:
        return np.uint64(0)
    if isinstance(argument, torch.Tensor):
        return np.uint64(argument.data_ptr())
    return np.int32(argument) if isinstance(argument, int) else argument
