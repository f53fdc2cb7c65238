"""The U-Net family: the network of the paper, the one its software effectively ran, and those we use.

All of them convolve 3 x 3 with zero padding, without bias and without normalisation, and end every convolution but the
last of `residual` and `guided` in a ReLU. Layers for f = `features` (f, 2f, 4f a level); the pixels of each layer's
output as a part of the image's, and the multiplications (MAC) per pixel of the image:

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
    guided     prior + net(input, prior), last one linear             63,000       7,704   123 x 123 pixels
    residual   input + net(input), last convolution linear            62,928       7,632   83 x 83
    paper      net(input), every level mixes in its input         62,928 + 3       7,632   83 x 83
    released   level 1 alone (what the software ran)               3,024 + 1       2,160   13 x 13

A network that sees D > 1 images - neighbouring slices (`depth`) or moments (`frames`) - has the same layers with
kernels of 3 x 3 x 3 (three times the weights) and puts out one of them: the middle one, or (`target`) the last of its
moments, so that nothing lags behind. Slices are halved in depth like rows and columns, rounded up; moments are not.
`guided` keeps its flat kernels (docs/decisions/0044): its first convolution sees all images, and their prior.

`guided` is shown, beside its input, what total variation makes of it (see total_variation.py; its additions are not
counted above), and corrects that: from the first step on it is about as good as total variation is, and what it has to
learn is what that does not know. Of D images total variation is that of their mean, in which those near to the one that
is put out weigh most. Its strength, in the unit of the input, and the breadth of that mean are numbers of the network
that are measured and not trained (see prior.py).

Without biases the function is homogeneous, net(c x) = c net(x) for c > 0 (`guided` with the strength times c), so what
was learned at one dose or brightness holds at another. Sources: Ronneberger et al. (2015) for the U-Net; the layers are
those described by Graas et al., Sci Rep (2023); Mohan et al., ICLR (2020) for networks without bias. Why these forms:
docs/explanations/learning.md.
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

from tango_jit.learn.tasks import TASKS, Task
from tango_jit.learn.total_variation import REACH, total_variation

Form = Literal["guided", "residual", "paper", "released"]
FORMS: tuple[Form, ...] = get_args(Form)
Target = Literal["middle", "last"]
TARGETS: tuple[Target, ...] = get_args(Target)
PRESETS = ("PRODUCT", "PAPER", "RELEASED", "CUSTOM")
LARGEST_STACK = 256  # features x images
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
STRENGTH = "strength"  # of the prior, among the tensors of a guided network
BREADTH = "breadth"  # of the mean that the prior is made of, among those of one that sees several images
UNMEASURED = {STRENGTH: 0.0, BREADTH: 1.0}
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
    moments, each `frame_interval` projections after the one before: odd numbers, and one of them 1. `target`: which of
    its images it puts out; of neighbouring slices only the middle one. `task`: what it learns, see tasks. Raises
    ValueError in words.
    """

    preset: str = "PRODUCT"
    features: int = 8
    depth: int = 1
    frames: int = 1
    frame_interval: int = 60
    form: Form = "guided"
    target: Target = "middle"
    task: str = "DENOISE"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {self.preset!r}")
        if self.form not in FORMS:
            raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {self.form!r}")
        if self.target not in TARGETS:
            raise ValueError(f"target: expected one of {', '.join(TARGETS)}, got {self.target!r}")
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")
        whole("features", self.features, 1, 64)
        whole("frame_interval", self.frame_interval, 1, 1_000_000)
        for name in ("depth", "frames"):
            if whole(name, getattr(self, name), 1, 63) % 2 == 0:
                raise ValueError(
                    f"{name}: expected an odd number (the middle one is put out), got {getattr(self, name)}"
                )
        if self.depth > 1 and self.target == "last":
            raise ValueError(f"target: expected 'middle' for a network that sees {self.depth} slices, got 'last'")
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
    def shown(self) -> int:
        """Index of the image that is put out."""
        return self.images - 1 if self.target == "last" else self.images // 2

    @property
    def seen(self) -> int:
        """Maps that the first convolution sees at each pixel: the image, or all of them and their prior."""
        return self.images + 1 if self.form == "guided" else 1

    @property
    def flat(self) -> bool:
        """Are its kernels flat, whatever it sees?"""
        return self.images == 1 or self.form == "guided"

    @property
    def learns(self) -> Task:
        """What its output is for."""
        return TASKS[self.task]

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of its numbers that are measured and not trained: those of the prior, and of the task."""
        prior = (STRENGTH, BREADTH) if self.images > 1 else (STRENGTH,)
        return (*(prior if self.form == "guided" else ()), *self.learns.numbers)

    @property
    def linear(self) -> bool:
        """Is the last convolution linear and its output a correction?"""
        return self.form in ("guided", "residual")

    @property
    def heights(self) -> tuple[int, int, int]:
        """Images that are convolved on each level, from the top."""
        if self.flat:
            return 1, 1, 1
        if self.depth == 1:
            return self.frames, self.frames, self.frames
        half = (self.depth + 1) // 2
        return self.depth, half, (half + 1) // 2

    @property
    def _taps(self) -> int:
        return 9 if self.flat else 27

    @property
    def stack(self) -> tuple[int, int, int, int]:
        """What the images are that it sees: slices, moments, frames between these (one moment: 0), the one shown."""
        return self.depth, self.frames, self.frame_interval if self.frames > 1 else 0, self.shown

    @property
    def shape(self) -> tuple[str, Form, int, tuple[int, int, int, int]]:
        """What decides the tensors and what they predict: networks of equal shape can take each other's weights."""
        return self.task, self.form, self.features, self.stack

    def refuse_unlike(self, present: NetworkConfig) -> None:
        """Raises ValueError if this is of another shape than the present one."""
        if self.shape != present.shape:
            had, wanted = (
                f"form {n.form}, {n.features} features, depth {n.depth}, frames {n.frames} (interval "
                f"{n.frame_interval}), target {n.target}, task {n.task}"
                for n in (present, self)
            )
            raise ValueError(
                f"network: expected the present shape ({had}), got {wanted}: another shape needs a reset of the network"
            )

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        f, mixing = self.features, {"paper": 3, "released": 1}.get(self.form, 0)
        return self._taps * ((1 + self.seen) * f + (5 if self.form == "released" else 109) * f * f) + mixing

    @property
    def macs_per_pixel(self) -> float:
        """Multiplications and additions per pixel of the image."""
        f, (first, second, third) = self.features, self.heights
        squares = 3 * first + second / 2
        if self.form != "released":
            squares += 4 * second + 5.5 * third
        return self._taps * ((1 + self.seen) * f * first + f * f * squares)

    @property
    def receptive_field(self) -> int:
        """Rows, and columns, of the input that one pixel of the output can depend on (its widest case)."""
        return {"released": 13, "guided": 83 + 2 * REACH}.get(self.form, 83)

    @property
    def multiple(self) -> int:
        """Rows and columns are padded to a multiple of this."""
        return 2 if self.form == "released" else 4

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the same configuration back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Raises ValueError that names the field that is missing, unknown or wrong.

        Without a `target` or a `task`, as it was written before there were any: the middle, and DENOISE.
        """
        fields = {"target": "middle", "task": "DENOISE", **fields}
        expected = cls.__dataclass_fields__
        if set(fields) != set(expected):
            raise ValueError(f"network: expected the fields {sorted(expected)}, got {sorted(fields)}")
        return cls(**fields)


class Level(nn.Module):
    """One level of the U: (B, outer, H, W) -> (B, outer, H, W), with D images (B, outer, D, H, W).

    `below` works at half the size; None makes this the bottom, which neither halves nor skips. `mix` adds a learned
    share alpha of the input to the output. `images`: D; `halve` says whether D is halved too. `inputs`: maps that
    enter, where they are more than leave.
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
        inputs: int | None = None,
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
        self.first = conv(inputs or outer, features)
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
    """(B, D, H, W) -> (B, 1, H, W), the image `config.shown`, for any H, W of at least 8. D: `config.images`.

    Build it with `build`. Raises ValueError for another shape.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        first, second, third = config.heights
        kind = {"mix": not config.linear, "halve": config.depth > 1 and not config.flat, "deep": not config.flat}
        below: nn.Module = nn.Identity()
        if config.form != "released":
            below = Level(f, 2 * f, Level(2 * f, 4 * f, None, images=third, **kind), images=second, **kind)
        self.top = Level(1, f, below, linear=config.linear, images=first, inputs=config.seen, **kind)
        for name in config.measured:
            self.register_buffer(name, torch.full((), {**UNMEASURED, **config.learns.numbers}[name]))

    def forward(self, x: Tensor) -> Tensor:
        rows, cols = x.shape[-2:]
        seen, base = entering(fitted(x, self.config), self.config, dict(self.named_buffers()))
        if self.config.flat:
            y = self.top(seen)
        else:
            y = self.top(seen[:, None])[:, :, self.config.shown]
        return (base + y.to(x.dtype) if self.config.linear else y)[..., :rows, :cols]


def entering(images: Tensor, config: NetworkConfig, numbers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the first convolution sees of fitted images (B, D, H, W): these, and for a guided network their prior, too;
    and what its correction is added to, (B, 1, H, W). `numbers` of the prior, by their names among the tensors."""
    if config.form != "guided":
        return images, images[:, config.shown, None]
    guide = images if config.images == 1 else mean(images, config.shown, numbers[BREADTH])
    prior = total_variation(guide, numbers[STRENGTH])
    return torch.cat([images, prior], 1), prior


def mean(images: Tensor, at: int, breadth: Tensor | float) -> Tensor:
    """(B, D, H, W) -> (B, 1, H, W): each image with the weight breadth - n, n from image `at`, while that is above 0.

    1 is this image alone, 2 adds half of those beside it, a large number is the mean of all.
    """
    far = (torch.arange(images.shape[1], device=images.device) - at).abs()
    weights = (torch.as_tensor(breadth, device=images.device).clamp_min(1) - far).clamp_min(0).to(images.dtype)
    return torch.einsum("bdhw,d->bhw", images, weights / weights.sum())[:, None]


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
        if config.linear:  # He et al. (2015): keeps the variance
            # Doubling the size, a transposed convolution has each output pixel meet a quarter of its taps.
            shared = math.prod(module.stride) if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d) else 1
            taps = module.in_channels * math.prod(module.kernel_size) / shared
            nn.init.normal_(module.weight, 0, math.sqrt(2 / taps), generator)
        else:  # PyTorch's own, with which the paper's software began
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator)
    with torch.no_grad():
        if config.linear:
            network.top.last.weight *= 0.01  # begins near the identity, yet every weight has a gradient
        else:
            network.top.last.weight.abs_()  # a last ReLU that begins below zero would stay dead
    return network
