"""The U-Net family: the network of the paper, the one its software effectively ran, and the one we use.

All of them convolve 3 x 3 with zero padding, without bias and without normalisation, and end every convolution but the
last of `residual` in a ReLU. Layers for f = `features` (f, 2f, 4f a level); the pixels of each layer's output as a
part of the image's, and the multiplications (MAC) per pixel of the image:

    level  layer    channels      pixels   weights            MAC/pixel          f = 8: weights  MAC/pixel
    1      first    1 -> f        1        9 f                9 f                          72         72
           second   f -> f        1        9 f^2              9 f^2                       576        576
           down     f -> f        1/4      9 f^2              9/4 f^2                     576        144
    2      first    f -> 2f       1/4      18 f^2             9/2 f^2                   1,152        288
           second   2f -> 2f      1/4      36 f^2             9 f^2                     2,304        576
           down     2f -> 2f      1/16     36 f^2             9/4 f^2                   2,304        144
    3      first    2f -> 4f      1/16     72 f^2             9/2 f^2                   4,608        288
           second   4f -> 4f      1/16     144 f^2            9 f^2                     9,216        576
           down     4f -> 4f      1/16     144 f^2            9 f^2                     9,216        576
           up       4f -> 4f      1/16     144 f^2            9 f^2                     9,216        576
           third    4f -> 4f      1/16     144 f^2            9 f^2                     9,216        576
           last     4f -> 2f      1/16     72 f^2             9/2 f^2                   4,608        288
    2      up       2f -> 2f      1/4      36 f^2             9/4 f^2                   2,304        144
           third    skip: 4f->2f  1/4      72 f^2             18 f^2                    4,608      1,152
           last     2f -> f       1/4      18 f^2             9/2 f^2                   1,152        288
    1      up       f -> f        1        9 f^2              9/4 f^2                     576        144
           third    skip: 2f->f   1        18 f^2             18 f^2                    1,152      1,152
           last     f -> 1        1        9 f                9 f                          72         72
           all                             18 f + 981 f^2     18 f + 117 f^2           62,928      7,632

    form       computes                                      weights (f = 8)   MAC/pixel   receptive field
    residual   input + net(input), last convolution linear            62,928       7,632   83 x 83 pixels
    paper      net(input), every level mixes in its input         62,928 + 3       7,632   83 x 83
    released   level 1 alone (what the software ran)               3,024 + 1       2,160   13 x 13

A network that sees D > 1 images - neighbouring slices (`depth`) or moments (`frames`) - has the same layers with
kernels of 3 x 3 x 3 (three times the weights) and puts out the middle one. Slices are halved in depth like rows and
columns, rounded up; moments are not.

Without biases the function is homogeneous, net(c x) = c net(x) for c > 0, so what was learned at one dose or brightness
holds at another. Sources: Ronneberger et al. (2015) for the U-Net; the layers are those described by Graas et al.,
Sci Rep (2023); Mohan et al., ICLR (2020) for networks without bias. Why these forms: docs/explanations/learning.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

Form = Literal["residual", "paper", "released"]
FORMS: tuple[Form, ...] = get_args(Form)
PRESETS = ("PRODUCT", "PAPER", "RELEASED", "CUSTOM")
LARGEST_STACK = 256  # features x images
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SAME: dict[str, Any] = {"kernel_size": 3, "padding": 1, "bias": False}


def whole(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int, or ValueError if it is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
    return value


@dataclass(frozen=True)
class NetworkConfig:
    """What to build. `preset` is only a name for it; the shape is decided by the other fields.

    `features`: feature maps of the first level. The network sees `depth` neighbouring slices, or one slice at `frames`
    moments, each `frame_interval` projections after the one before: odd numbers, and one of them 1. Raises ValueError
    in words.
    """

    preset: str = "PRODUCT"
    features: int = 8
    depth: int = 1
    frames: int = 1
    frame_interval: int = 60
    form: Form = "residual"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {self.preset!r}")
        if self.form not in FORMS:
            raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {self.form!r}")
        whole("features", self.features, 1, 64)
        whole("frame_interval", self.frame_interval, 1, 1_000_000)
        for name in ("depth", "frames"):
            if whole(name, getattr(self, name), 1, 63) % 2 == 0:
                raise ValueError(
                    f"{name}: expected an odd number (the middle one is put out), got {getattr(self, name)}"
                )
        if self.depth > 1 < self.frames:
            raise ValueError(f"depth, frames: expected one of them to be 1, got {self.depth} and {self.frames}")
        if self.features * self.images > LARGEST_STACK:
            raise ValueError(
                f"features: expected at most {LARGEST_STACK} maps on the first level, all images together, "
                f"got {self.features} for each of {self.images} images"
            )

    @property
    def images(self) -> int:
        """Images that the network sees at once: neighbouring slices, or moments."""
        return self.depth * self.frames

    @property
    def heights(self) -> tuple[int, int, int]:
        """Images on each level, from the top."""
        if self.depth == 1:
            return self.frames, self.frames, self.frames
        half = (self.depth + 1) // 2
        return self.depth, half, (half + 1) // 2

    @property
    def _taps(self) -> int:
        return 9 if self.images == 1 else 27

    @property
    def shape(self) -> tuple[Form, int, int, int]:
        """What decides the tensors: networks of equal shape can take each other's weights."""
        return self.form, self.features, self.depth, self.frames

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        f, mixing = self.features, {"residual": 0, "paper": 3, "released": 1}[self.form]
        return self._taps * (2 * f + (5 if self.form == "released" else 109) * f * f) + mixing

    @property
    def macs_per_pixel(self) -> float:
        """Multiplications and additions per pixel of the image."""
        f, (first, second, third) = self.features, self.heights
        squares = 3 * first + second / 2
        if self.form != "released":
            squares += 4 * second + 5.5 * third
        return self._taps * (2 * f * first + f * f * squares)

    @property
    def receptive_field(self) -> int:
        """Rows, and columns, of the input that one pixel of the output can depend on (its widest case)."""
        return 13 if self.form == "released" else 83

    @property
    def multiple(self) -> int:
        """Rows and columns are padded to a multiple of this."""
        return 2 if self.form == "released" else 4

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the same configuration back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Raises ValueError that names the field that is missing, unknown or wrong."""
        expected = cls.__dataclass_fields__
        if set(fields) != set(expected):
            raise ValueError(f"network: expected the fields {sorted(expected)}, got {sorted(fields)}")
        return cls(**fields)


class Level(nn.Module):
    """One level of the U: (B, outer, H, W) -> (B, outer, H, W), with D images (B, outer, D, H, W).

    `below` works at half the size; None makes this the bottom, which neither halves nor skips. `mix` adds a learned
    share alpha of the input to the output. `images`: D; `halve` says whether D is halved too.
    """

    def __init__(
        self,
        outer: int,
        features: int,
        below: nn.Module | None,
        *,
        mix: bool,
        linear: bool = False,
        images: int = 1,
        halve: bool = False,
        deep: bool = False,
    ) -> None:
        super().__init__()
        stride = 1 if below is None else 2
        strides = (stride if halve else 1, stride, stride)
        extra = (int(halve and below is not None and images % 2 == 0), stride - 1, stride - 1)
        if deep:
            conv, transposed = partial(nn.Conv3d, **SAME), partial(nn.ConvTranspose3d, **SAME)
        else:
            conv, transposed = partial(nn.Conv2d, **SAME), partial(nn.ConvTranspose2d, **SAME)
            strides, extra = strides[1:], extra[1:]
        self.first = conv(outer, features)
        self.second = conv(features, features)
        self.down = conv(features, features, stride=strides)
        self.below = below
        self.up = transposed(features, features, stride=strides, output_padding=extra)
        self.third = conv(features if below is None else 2 * features, features)
        self.last = conv(features, outer)
        self.alpha = nn.Parameter(torch.zeros(())) if mix else None
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        skip = relu(self.second(relu(self.first(x))))  # (B, f, H, W)
        y = relu(self.down(skip))  # (B, f, H/2, W/2); the bottom stays at H, W
        if self.below is None:
            y = relu(self.up(y))
        else:
            y = torch.cat([skip, relu(self.up(self.below(y)))], 1)  # (B, 2f, H, W)
        y = self.last(relu(self.third(y)))  # (B, outer, H, W)
        y = y if self.linear else relu(y)
        return y if self.alpha is None else self.alpha * x + (1 - self.alpha) * y


class UNet(nn.Module):
    """(B, D, H, W) -> (B, 1, H, W), the middle image, for any H, W of at least 8. D: `config.images`.

    Build it with `build`. Raises ValueError for another shape.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        f, residual = config.features, config.form == "residual"
        first, second, third = config.heights
        kind = {"mix": not residual, "halve": config.depth > 1, "deep": config.images > 1}
        below: nn.Module = nn.Identity()
        if config.form != "released":
            below = Level(f, 2 * f, Level(2 * f, 4 * f, None, images=third, **kind), images=second, **kind)
        self.top = Level(1, f, below, linear=residual, images=first, **kind)

    def forward(self, x: Tensor) -> Tensor:
        padded, rows, cols = fitted(x, self.config), x.shape[-2], x.shape[-1]
        middle = self.config.images // 2
        if self.config.images == 1:
            y = self.top(padded)
        else:
            y = self.top(padded[:, None])[:, :, middle]
        y = y[..., :rows, :cols]
        return x[:, middle : middle + 1] + y.to(x.dtype) if self.config.form == "residual" else y


def fitted(x: Tensor, config: NetworkConfig) -> Tensor:
    """The images (B, D, H, W), rows and columns padded to a multiple that can be halved. Raises ValueError."""
    rows, cols = x.shape[-2:]
    if x.ndim != 4 or x.shape[1] != config.images or min(rows, cols) < 8:
        raise ValueError(
            f"image: expected (batch, {config.images}, rows, cols) of at least 8 x 8 pixels, got {tuple(x.shape)}"
        )
    if rows % config.multiple or cols % config.multiple:
        return pad(x, (0, -cols % config.multiple, 0, -rows % config.multiple), mode="replicate")
    return x


def build(config: NetworkConfig, seed: int = 0) -> UNet:
    """A new network in float32 on the CPU; the same seed gives the same weights."""
    network = UNet(config)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if not isinstance(module, CONVOLUTIONS):
            continue
        if config.form == "residual":  # He et al. (2015): keeps the variance
            # Doubling the size, a transposed convolution has each output pixel meet a quarter of its taps.
            shared = math.prod(module.stride) if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d) else 1
            taps = module.in_channels * math.prod(module.kernel_size) / shared
            nn.init.normal_(module.weight, 0, math.sqrt(2 / taps), generator)
        else:  # PyTorch's own, with which the paper's software began
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator)
    with torch.no_grad():
        if config.form == "residual":
            network.top.last.weight *= 0.1  # begins near the identity, yet every weight has a gradient
        else:
            network.top.last.weight.abs_()  # a last ReLU that begins below zero would stay dead
    return network
