"""The CUDA backend on a computer without a device: its own kernels, compiled as C++ for an emulated device (device.h).

What is emulated is the interface `cuda_device`; rings, packing, launches and the text of the kernels are the real ones.
So the numbers are checked here, and what is left for a real device are CUDA, CuPy and speed.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.recon.backproject import cuda, cuda_device, cuda_half

COMPILER = shutil.which("g++")
HEADER = Path(__file__).with_name("device.h")
INTERFACE = ("empty", "is_here", "upload", "free_bytes", "largest", "layers", "kernel", "stream", "event")


class _Texture(ctypes.Structure):
    """As Texture in device.h."""

    _fields_ = (("data", ctypes.c_void_p), *((name, ctypes.c_int) for name in ("layers", "rows", "cols", "texel")))


class Stream:
    """All is done at once, so nobody has to wait."""

    cuda_stream = 7

    def wait_event(self, event: Event) -> None: ...


class Event:
    def record(self, stream: Stream) -> None: ...

    def synchronize(self) -> None: ...


class Device:
    """Stands for `cuda_device` (see `INTERFACE`); its memory is that of the computer.

    `order` is that of the threads of a block: 0: by number, else at random with this seed. `edits` replace pieces of
    the text of a source, each of which must be there.
    """

    def __init__(self, folder: Path, edits: dict[str, dict[str, str]] | None = None) -> None:
        self.reset()
        self.edits, self._folder, self._stream = edits or {}, folder, Stream()
        self._libraries: dict[str, ctypes.CDLL] = {}

    def reset(self, *, layers: int = 2048, order: int = 0) -> None:
        """Begin anew with plenty of memory, and texture arrays of so many layers at most."""
        self.most, self.order, self.free, self.launches = layers, order, 1 << 40, 0

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full(shape, torch.nan, dtype=dtype)

    def is_here(self, tensor: Tensor) -> bool:
        return tensor.device.type == "cpu"

    def upload(self, array: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        copy = torch.empty(tuple(array.shape), dtype=dtype)
        copy.numpy()[...] = array
        return copy

    def free_bytes(self) -> int:
        return self.free

    def largest(self) -> tuple[int, int, int]:
        return self.most, 32768, 32768

    def layers(self, count: int, rows: int, cols: int, texel: int) -> cuda_device.Layers:
        texels = np.full((count, rows, cols), np.nan, np.float32 if texel == 4 else np.float16)
        texture = _Texture(texels.ctypes.data, count, rows, cols, texel)
        return cuda_device.Layers(ctypes.addressof(texture), ctypes.addressof(texture), (texels, texture))

    def stream(self) -> Stream:
        return self._stream

    def event(self) -> Event:
        return Event()

    def kernel(self, source: str, name: str) -> Any:
        address = ctypes.c_void_p.in_dll(self._library(source), f"run_{name}").value
        assert address is not None

        def run(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[np.integer, ...], stream: Any) -> None:
            assert stream.ptr == self._stream.cuda_stream
            sizes = [*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3]]
            types = [{np.int32: ctypes.c_int32, np.uint64: ctypes.c_uint64}[type(number)] for number in arguments]
            call = ctypes.CFUNCTYPE(ctypes.c_char_p, *[ctypes.c_int] * 7, *types)(address)
            failure = call(self.order, *sizes, *(int(number) for number in arguments))
            self.launches += 1
            if failure:
                raise RuntimeError(failure.decode())

        return run

    def _library(self, source: str) -> ctypes.CDLL:
        if source not in self._libraries:
            self._libraries[source] = self._built(source)
        return self._libraries[source]

    def _built(self, source: str) -> ctypes.CDLL:
        text = cuda_device.SOURCES[source].read_text()
        for piece, other in self.edits.get(source, {}).items():
            assert piece in text, f"expected in {source}.cu: {piece}"
            text = text.replace(piece, other)
        names = re.findall(r"^KERNEL\((\w+), ", text, re.M)
        names += [
            f"{what}_{bits}" for bits in re.findall(r"^KERNELS\((\d+), ", text, re.M) for what in ("read", "write")
        ]
        assert names, f"expected kernels in {source}.cu"
        program, library = self._folder / f"{source}.cpp", self._folder / f"{source}.so"
        exports = "".join(f"EXPORT({name})\n" for name in names)
        program.write_text(f'#include "{HEADER}"\n{text}\n{exports}')
        assert COMPILER is not None
        command = [
            COMPILER,
            *cuda_device.OPTIONS,
            "-O1",
            "-U_FORTIFY_SOURCE",
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            str(program),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert result.returncode == 0, result.stderr
        return ctypes.CDLL(str(library))

    def put_in_place(self, patch: pytest.MonkeyPatch) -> None:
        """Be the device of this process until `patch` is undone."""
        for name in INTERFACE:
            patch.setattr(cuda_device, name, getattr(self, name))
        patch.setattr(cuda_device, "DEVICE", "cpu")
        for backend in (cuda, cuda_half):
            patch.setattr(backend, "obstacle", lambda: "")
