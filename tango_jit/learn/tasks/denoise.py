"""Noise2Inverse: predict the other image; the best prediction in the mean square is the object."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from tango_jit.learn import noise2inverse
from tango_jit.learn.noise2inverse import Errors, Split
from tango_jit.learn.tasks.task import Numbers, Task


class Denoise(Task):
    """The accuracy is |A(u) - v|^2 / |u - v|^2, see noise2inverse.py."""

    name = "DENOISE"
    shows = "attenuation in 1/mm"
    simply = "slices are shown as reconstructed"
    restores = True
    least = 0.5  # half of |u - v|^2 is the noise of v, which stays
    helpful: Mapping[Split, float] = MappingProxyType({"turns": 0.88, "halves": 0.72})

    def target(self, other: Tensor, numbers: Numbers) -> Tensor:
        return other

    def loss(self, output: Tensor, target: Tensor, weights: Tensor, numbers: Numbers) -> Tensor:
        return noise2inverse.loss(output, target, weights)

    def picture(self, output: Tensor, numbers: Numbers) -> Tensor:
        return output

    def simple(self, image: Tensor, numbers: Numbers) -> Tensor:
        return image

    def errors(
        self, output: Tensor, inputs: Tensor, target: Tensor, weights: Tensor, halo: int, numbers: Numbers
    ) -> Errors:
        """Each sample by itself, as the paper has it."""
        return noise2inverse.errors(output, inputs, target, weights, halo)
