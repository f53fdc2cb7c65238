"""The same network as flat convolutions of many channels, which processors and GPUs are made for.

A stack of D images with f maps each becomes one image with D f maps: a kernel of 3 x 3 x 3 then is one of 3 x 3 between
all pairs of images that it connects, zero between the others. What the image that is put out does not need is left
out. In the same way `blocks` turn 2 x 2 pixels into four maps of an image of half the size, so that a few maps fill the
registers that multiply 16 or 32 at a time: multiplying with zeros costs less than narrow layers do
(docs/decisions/0032). The function is that of `unet.UNet` to rounding, and so are its gradients: the weights folded
here are sums of the network's own.

In bfloat16 an image enters as the sum of two numbers, and what leaves is computed as its difference to the image, so
that the eight bits of mantissa are those of what the network changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, relu

from tango_jit.learn.unet import NetworkConfig, entering, fitted


class Layer(Protocol):
    """What runs a convolution: (B, I, H, W) -> (B, O, H', W')."""

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """`base` (B, O, H', W') is subtracted before the result is rounded to bfloat16, if it is; None: nothing."""
        ...


@dataclass(frozen=True)
class Convolution:
    """3 x 3 with zero padding; halves the image with stride 2, doubles it if `transposed` too.

    `weight` is (O, I, 3, 3), or (I, O, 3, 3) if transposed.
    """

    weight: Tensor
    stride: int = 1
    transposed: bool = False
    relu: bool = True

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        if base is not None:  # in float32: plain convolutions cannot subtract before they round
            return conv2d(x.float(), self.weight.float(), None, self.stride, 1) - base
        if self.transposed:
            y = conv_transpose2d(x, self.weight, None, self.stride, 1, self.stride - 1)
        else:
            y = conv2d(x, self.weight, None, self.stride, 1)
        return y.relu_() if self.relu else y


@dataclass(frozen=True)
class Level:
    """One level of the U on folded images. `across`: the maps that skip what is below; None: this is the bottom."""

    first: Layer
    second: Layer
    down: Layer
    below: Level | None
    up: Layer
    third: Layer
    last: Layer
    across: slice | None
    alpha: Tensor | float

    def before_last(self, x: Tensor) -> Tensor:
        skip = self.second(self.first(x))
        y = self.down(skip)
        y = self.up(y if self.below is None else self.below(y))
        if self.across is not None:
            y = torch.cat([skip[:, self.across], y], 1)
        return self.third(y)

    def __call__(self, x: Tensor) -> Tensor:
        return mixed(self.last(self.before_last(x)), x, self.alpha)


def mixed(y: Tensor, x: Tensor, alpha: Tensor | float) -> Tensor:
    """(1 - alpha) y + alpha x."""
    if isinstance(alpha, Tensor):
        return torch.lerp(y, x, alpha.to(y.dtype))
    return torch.lerp(y, x, alpha) if alpha else y


class Folded:
    """A network ready to run: (B, D, H, W) float32 -> (B, 1, H, W) float32, as `UNet(config)` with these tensors.

    `tensors`: those of the network by name (KeyError without one); the result is differentiable with respect to them.
    `dtype` of the arithmetic: float32 or bfloat16. `blocks`: fold 2 x 2 pixels on the first level. `make` gives what
    runs a convolution.
    """

    def __init__(
        self,
        config: NetworkConfig,
        tensors: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float32,
        *,
        blocks: bool = False,
        make: Callable[[Convolution], Layer] = lambda convolution: convolution,
    ) -> None:
        self.config, self.dtype, self.blocks = config, dtype, blocks
        self.numbers: list[Tensor] = []
        """The tensors that it computes with, always in the same order."""
        made = partial(_made, self.numbers, dtype, make)
        self._top = _level("top.", config, tensors, made, blocks, split=dtype == torch.bfloat16)
        self._measured = {name: tensors[name] for name in config.measured}
        single = "alpha", *config.measured
        self.numbers += [t for name, t in tensors.items() if name.endswith(single) and t.is_cuda]

    def __call__(self, x: Tensor) -> Tensor:
        rows, cols = x.shape[-2:]
        images, base = entering(fitted(x, self.config), self.config, self._measured)
        y = self._top.before_last(self._folded(self._rounded(images)))
        if self.config.linear:
            y = self._unfolded(self._top.last(y)) + base
        else:
            rounded = base.to(self.dtype)
            y = relu(self._unfolded(self._top.last(y, self._folded(rounded))) + rounded.float())
            y = mixed(y, base, self._top.alpha)
        return y[..., :rows, :cols]

    def _rounded(self, images: Tensor) -> Tensor:
        rounded = images.to(self.dtype)
        if self.dtype == torch.float32:
            return rounded
        return torch.cat([rounded, (images - rounded).to(self.dtype)], 1)

    def _folded(self, images: Tensor) -> Tensor:
        return in_blocks(images) if self.blocks else images.contiguous(memory_format=torch.channels_last)

    def _unfolded(self, y: Tensor) -> Tensor:
        return (in_pixels(y) if self.blocks else y).float()


def in_blocks(images: Tensor) -> Tensor:
    """(B, C, H, W), contiguous -> (B, 4 C, H/2, W/2) in channels-last order: `pixel_unshuffle`, several times faster.

    The two pixels of a block that are neighbours in memory are moved as one number.
    """
    batch, maps, rows, cols = images.shape
    pairs = images.reshape(-1).view(_twice(images.dtype)).view(batch, maps, rows // 2, 2, cols // 2)
    blocks = pairs.permute(0, 2, 4, 1, 3).reshape(-1).view(images.dtype)
    return blocks.view(batch, rows // 2, cols // 2, 4 * maps).permute(0, 3, 1, 2)


def in_pixels(blocks: Tensor) -> Tensor:
    """The inverse: (B, 4, H/2, W/2) in channels-last order -> (B, 1, H, W)."""
    batch, _, rows, cols = blocks.shape
    pairs = blocks.permute(0, 2, 3, 1).reshape(-1).view(_twice(blocks.dtype)).view(batch, rows, cols, 2)
    return pairs.transpose(2, 3).reshape(-1).view(blocks.dtype).view(batch, 1, 2 * rows, 2 * cols)


def _twice(dtype: torch.dtype) -> torch.dtype:
    return torch.int64 if dtype.itemsize == 4 else torch.int32


def _made(
    numbers: list[Tensor],
    dtype: torch.dtype,
    make: Callable[[Convolution], Layer],
    weight: Tensor,
    stride: int = 1,
    transposed: bool = False,
    relu: bool = True,
) -> Layer:
    weight = weight.transpose(0, 1) if transposed else weight
    weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
    numbers.append(weight)
    return make(Convolution(weight, stride, transposed, relu))


def _level(
    name: str,
    config: NetworkConfig,
    tensors: Mapping[str, Tensor],
    made: Callable[..., Layer],
    blocks: bool = False,
    split: bool = False,
) -> Level:
    """The level whose tensors begin with `name`: "top.", "top.below." or the bottom, "top.below.below."."""
    depth = name.count("below")
    bottom = depth == 2
    here = range(config.heights[depth])
    under = here if bottom else range(config.heights[depth + 1])
    step = 2 if config.depth > 1 and not (bottom or config.flat) else 1
    wanted = near = farther = here
    if depth == 0 and not config.flat:  # only one image leaves
        shown = config.shown
        wanted, near, farther = (here[max(0, shown - n) : shown + n + 1] for n in range(3))

    def weight(layer: str) -> Tensor:
        return tensors[f"{name}{layer}.weight"]

    block = _blocks if blocks else lambda folded, _kind: folded
    first = _stacked(weight("first"), here, here)
    first = torch.cat([first, first], 1) if split else first  # an image comes as the sum of two
    up = _stacked(weight("up").transpose(0, 1), farther, under, step, transposed=True)
    if bottom:  # transposed without a stride: a convolution with the kernel turned round
        up = up.flip(2, 3)
    features = weight("second").shape[0]
    third = [_stacked(part, near, farther) for part in weight("third").split(features, 1)]
    maps = features * (4 if blocks else 1)
    plain = bottom or blocks
    return Level(
        first=made(block(first, "same")),
        second=made(block(_stacked(weight("second"), here, here), "same")),
        down=made(block(_stacked(weight("down"), under, here, step), "down"), 1 if plain else 2),
        below=None if f"{name}below.first.weight" not in tensors else _level(f"{name}below.", config, tensors, made),
        up=made(block(up, "up"), 1 if plain else 2, not plain),
        third=made(block(torch.cat(third, 1), "same")),
        last=made(block(_stacked(weight("last"), wanted, near), "same"), relu=depth > 0),
        across=None if bottom else slice(farther[0] * maps, (farther[-1] + 1) * maps),
        alpha=_share(tensors.get(f"{name}alpha")),
    )


def _share(alpha: Tensor | None) -> Tensor | float:
    """A tensor where it is trained or on a GPU, otherwise a number."""
    if alpha is None:
        return 0.0
    return alpha if alpha.is_cuda or (alpha.requires_grad and torch.is_grad_enabled()) else float(alpha)


def _stacked(weight: Tensor, outs: range, ins: range, step: int = 1, transposed: bool = False) -> Tensor:
    """A kernel (O, I, 3, 3, 3) between the images `ins` and `outs` of two stacks: (outs O, ins I, 3, 3).

    A flat one (O, I, 3, 3) is returned as it is.
    """
    if weight.ndim == 4:
        return weight
    table = _images(outs, ins, step, transposed, weight.device).to(weight.dtype)
    return torch.einsum("oikyx,kde->doeiyx", weight, table).flatten(2, 3).flatten(0, 1)


@cache
@torch.inference_mode(False)  # kept for steps that need gradients, too
def _images(outs: range, ins: range, step: int, transposed: bool, device: torch.device) -> Tensor:
    """(3, outs, ins): 1 where tap k takes image e of the input to image d of the output."""
    out, taken, tap = torch.tensor(outs)[:, None], torch.tensor(ins), torch.arange(3)[:, None, None]
    reached = out + 1 - step * taken if transposed else taken + 1 - step * out
    return (tap == reached).float().to(device)


def _blocks(weight: Tensor, kind: str) -> Tensor:
    """A kernel (O, I, 3, 3) on pixels, as one on blocks of 2 x 2 pixels: (4 O, 4 I, 3, 3).

    "down": its output are pixels again, those of the halved image: (O, 4 I, 3, 3); "up": its input: (4 O, I, 3, 3).
    """
    table = _pixels(kind, weight.device).to(weight.dtype)
    return torch.einsum("oiyx,yqpa,xrsb->oqripsab", weight, table, table).flatten(3, 5).flatten(0, 2)


@cache
@torch.inference_mode(False)
def _pixels(kind: str, device: torch.device) -> Tensor:
    """(3, q, p, 3): 1 where tap k takes pixel p of the block a - 1 places on to pixel q of this block; one axis."""
    inside, one = torch.arange(2), torch.zeros(1, dtype=torch.int64)
    q = (one if kind == "down" else inside)[:, None, None]
    p = (one if kind == "up" else inside)[:, None]
    block, tap = torch.arange(3) - 1, torch.arange(3)[:, None, None, None]
    reached = q + 1 - 2 * block if kind == "up" else 2 * block + p - q + 1
    return (tap == reached).expand(3, len(q), len(p), 3).float().to(device)
