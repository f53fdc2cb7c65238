"""Images through a trained network, as fast as this computer can, of any size in bounded memory.

On the processor convolutions run in oneDNN with weights that were laid out for it once, the ReLU fused; narrow networks
run on blocks of pixels (see folded.py). Large images pass in tiles with as much around them as the network sees: the
result is that of the whole to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from tango_jit.learn.folded import Convolution, Folded
from tango_jit.learn.graphs import Passes
from tango_jit.learn.precision import Precision, arithmetic
from tango_jit.learn.unet import NetworkConfig, UNet

TILE_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}  # of the maps that are alive at the same time
MAPS_ALIVE = 6  # on the first level, in units of its features
WIDE_ENOUGH = 16  # maps on the first level from which on blocks cost more than they save
CHECKED, LARGEST_ERROR = 128, 0.01  # rows and columns that are computed twice; of the change that the network makes


class Packed:
    """A convolution on the processor, by oneDNN: its weights laid out at the first call, its ReLU fused."""

    def __init__(self, convolution: Convolution) -> None:
        self._convolution = convolution
        self._weight: Tensor | None = None

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        convolution = self._convolution
        stride, one = [convolution.stride] * 2, [1, 1]
        activation = "relu" if convolution.relu else "none"
        if convolution.transposed:
            extra = [convolution.stride - 1] * 2
            if self._weight is None:
                reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
                self._weight = reorder(convolution.weight, one, extra, stride, one, 1, x.shape)
            run = torch.ops.mkldnn._convolution_transpose_pointwise
            return run(x, self._weight, None, one, extra, stride, one, 1, activation, [], "")
        if self._weight is None:
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self._weight = reorder(convolution.weight, one, stride, one, 1, x.shape)
        run = torch.ops.mkldnn._convolution_pointwise
        if base is None:
            return run(x, self._weight, None, one, stride, one, 1, activation, [], "")
        return run.binary(x, -base, self._weight, None, one, stride, one, 1, "add", None, None, [], None)


def folded(config: NetworkConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Folded:
    """The network with these tensors in the form in which their device runs it fastest, without gradients."""
    if next(iter(tensors.values())).device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return Folded(config, tensors, dtype)
    blocks = dtype == torch.bfloat16 and config.features * config.heights[0] < WIDE_ENOUGH
    return Folded(config, tensors, dtype, blocks=blocks, make=Packed)


class Predictor:
    """A network ready to denoise: (n, D, rows, cols) float32 in units of its scale -> (n, 1, rows, cols) float32.

    `precision` "auto": bfloat16 where the device multiplies it, unless the first image shows, on a part of it, that its
    rounding is more than 1 % (root mean square) of what the network changes. `passes`: recordings for a GPU, shared by
    the versions of a network; None: each kernel is launched by itself.
    """

    def __init__(self, network: UNet, precision: Precision, device: torch.device, passes: Passes | None = None) -> None:
        self.config = network.config
        self._passes = passes
        self._tensors = {name: tensor.detach().to(device) for name, tensor in network.state_dict().items()}
        self._run = self._folded(arithmetic(precision, device))
        self._checked = precision != "auto" or self._run.dtype == torch.float32

    @property
    def numbers(self) -> dict[str, Tensor]:
        """Those of its task, in units of its scale."""
        return {name: self._tensors[name] for name in self.config.learns.numbers}

    @property
    def precision(self) -> Literal["bfloat16", "float32"]:
        """The arithmetic of the next image; the first one may change it."""
        return "bfloat16" if self._run.dtype == torch.bfloat16 else "float32"

    def _folded(self, dtype: torch.dtype) -> Folded:
        return folded(self.config, self._tensors, dtype)

    def __call__(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            if not self._checked:
                self._check(images)
            rows, cols = images.shape[-2:]
            halo = -(-(self.config.receptive_field // 2) // 4) * 4  # in whole steps of 4
            maps = self.config.features * self.config.heights[0] * MAPS_ALIVE
            pixels = TILE_BYTES[images.device.type] // (maps * self._run.dtype.itemsize)
            denoised = torch.empty_like(images[:, :1])
            for n in range(len(images)):  # two at once fall out of the caches
                for row, col in tiles(rows, cols, pixels):
                    around = _with_halo(row, rows, halo), _with_halo(col, cols, halo)
                    part = self._passed(images[n : n + 1, :, around[0], around[1]])
                    inner = _within(row, around[0]), _within(col, around[1])
                    denoised[n, :, row, col] = part[0, :, inner[0], inner[1]]
            return denoised

    def _passed(self, images: Tensor) -> Tensor:
        if self._passes is not None and images.is_cuda:
            return self._passes(self._run, images)
        return self._run(images)

    def _check(self, images: Tensor) -> None:
        """Go on in float32 if bfloat16 is too coarse for what this network does to the centre of these images."""
        rows, cols = (max(0, size - CHECKED) // 2 // 4 * 4 for size in images.shape[-2:])
        part = images[:1, :, rows : rows + CHECKED, cols : cols + CHECKED]
        exact = self._folded(torch.float32)
        expected = exact(part)
        changed = (expected - part[:, self.config.shown, None]).square().mean().sqrt()
        error = (self._run(part) - expected).square().mean().sqrt()
        if error > LARGEST_ERROR * changed:
            self._run = exact
        self._checked = bool(changed > 0)  # an empty image tells nothing


def tiles(rows: int, cols: int, pixels: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles of about `pixels` that make up an image, their corners at multiples of 4.

    Bands of whole rows while those are not too thin.
    """
    side = max(64, math.isqrt(pixels) // 4 * 4)
    width = cols if cols <= 2 * side else side
    height = max(64, pixels // width // 4 * 4)
    for top in range(0, rows, height):
        for left in range(0, cols, width):
            yield slice(top, min(top + height, rows)), slice(left, min(left + width, cols))


def _with_halo(part: slice, size: int, halo: int) -> slice:
    return slice(max(0, part.start - halo), min(size, part.stop + halo))


def _within(part: slice, around: slice) -> slice:
    return slice(part.start - around.start, part.stop - around.start)
