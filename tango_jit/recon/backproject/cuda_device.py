"""The CUDA device as the backend uses it: memory and streams of PyTorch, textures and kernels of CuPy.

The two share the device's context and memory by address; nothing is copied between them. This is the one module that
touches either of their interfaces to the device, and the tests put an emulated device in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tango_jit.recon.backproject.arguments import MIN_DEPTH
from tango_jit.recon.backproject.memory import EXACT, megabytes

DEVICE = "cuda"
OLDEST = (7, 5)  # compute capability (Turing): the oldest that CUDA 13 compiles for
LAYERED, OUT_OF_MEMORY = 1, 2  # cudaArrayLayered and cudaErrorMemoryAllocation: CuPy has no names for them

# Of the kernels: pixels along both sides of what a block works on, planes that one thread sums, views that a block
# looks at together (they share its memory).
TILE, PLANES, CHUNK = 16, 4, 128
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
        cupy = import_module("cupy")
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        return f"it needs CuPy with NVRTC (the extra cuda), which cannot be loaded: {error}"
    if torch.version.cuda is None:
        return f"it needs a PyTorch with CUDA, this one ({torch.__version__}) was built without"
    try:
        torch.cuda.init()
    except RuntimeError as error:  # no driver, one that is too old, no device
        return f"it needs an NVIDIA driver and a device: {error}"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST:
        name, number = torch.cuda.get_device_name(), ".".join(map(str, capability))
        return f"it needs a device of compute capability 7.5 or more, {name} has {number}"
    return ""


# ---- memory


def empty(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=DEVICE)


def is_here(tensor: Tensor) -> bool:
    """Does it live on the device?"""
    return tensor.is_cuda


def upload(array: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers of an array (or a tensor elsewhere) on the device.

    They pass through pinned memory: the copy is only queued, and `array` may change at once.
    """
    staged = torch.empty(tuple(array.shape), dtype=dtype, pin_memory=True)
    staged.numpy()[...] = array
    return staged.to(DEVICE, non_blocking=True)


def free_bytes() -> int:
    """Memory of the device that can be had: what nobody has, and what PyTorch keeps for later."""
    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


@contextmanager
def in_words(what: str, needed: int) -> Iterator[None]:
    """Whatever runs out of device memory inside raises MemoryError, which names what was to be made and both sizes."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryError(
            f"{what}: expected {megabytes(needed)} of device memory, got {megabytes(free_bytes())} free"
        ) from error


# ---- textures


class Layers(NamedTuple):
    """Layers of one texture array. `texture` and `surface` are handles for kernels, good as long as `owners` live."""

    texture: int
    surface: int
    owners: tuple[Any, ...]


def largest() -> tuple[int, int, int]:
    """The most layers, rows and columns that a texture array may have."""
    runtime = import_module("cupy.cuda.runtime")
    layers, rows, cols = (
        runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttrMaxTexture2DLayered{what}"), runtime.getDevice())
        for what in ("Layers", "Height", "Width")
    )
    return layers, rows, cols


def layers(count: int, rows: int, cols: int, texel: int) -> Layers:
    """A texture array of float32 (`texel` 4) that is read as it is, or of float16 (2) that is interpolated.

    Coordinates count pixels, the middle of the first at 0.5; beyond the edge it repeats. Raises MemoryError.
    """
    texture, runtime = import_module("cupy.cuda.texture"), import_module("cupy.cuda.runtime")
    kind = texture.ChannelFormatDescriptor(8 * texel, 0, 0, 0, runtime.cudaChannelFormatKindFloat)
    filter_ = runtime.cudaFilterModePoint if texel == EXACT else runtime.cudaFilterModeLinear
    how = texture.TextureDescriptor((runtime.cudaAddressModeClamp,) * 2, filter_, runtime.cudaReadModeElementType)
    torch.cuda.empty_cache()  # what PyTorch keeps for later is of no use to others
    try:
        array = texture.CUDAarray(kind, cols, rows, count, LAYERED | runtime.cudaArraySurfaceLoadStore)
    except runtime.CUDARuntimeError as error:
        if error.status == OUT_OF_MEMORY:
            raise MemoryError(str(error)) from error
        raise
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    owners = texture.TextureObject(resource, how), texture.SurfaceObject(resource)
    return Layers(owners[0].ptr, owners[1].ptr, owners)


# ---- kernels and streams


@cache
def kernel(source: str, name: str) -> Any:
    """The kernel `name` of the file `source`.cu, compiled for this device; CuPy keeps it in its cache on disk."""
    return _module(source).get_function(name)


@cache
def _module(source: str) -> Any:
    return import_module("cupy").RawModule(code=SOURCES[source].read_text(), options=OPTIONS)


def launch(
    kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: int | Tensor | np.integer | None
) -> None:
    """Queue a kernel on torch's current stream.

    Whole numbers are passed as 32 bits (`np.uint64` for handles), tensors as their address, None as a null pointer.
    """
    current = SimpleNamespace(ptr=stream().cuda_stream)
    kernel(grid, block, tuple(map(passed, arguments)), stream=current)


def passed(argument: int | Tensor | np.integer | None) -> np.integer:
    """As a kernel takes it, see `launch`."""
    if argument is None:
        return np.uint64(0)
    if isinstance(argument, Tensor):
        return np.uint64(argument.data_ptr())
    return np.int32(argument) if isinstance(argument, int) else argument


def stream() -> torch.cuda.Stream:
    """The current stream of this thread."""
    return torch.cuda.current_stream()


def event() -> torch.cuda.Event:
    """A mark to be recorded in one stream and waited for in others."""
    return torch.cuda.Event()
