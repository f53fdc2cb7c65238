"""Two phases: what is denser than a threshold, learned from simple thresholds of the other image.

What total variation makes of an image, cut at a threshold, is a segmentation with errors, and those of two images with
independent noise are independent. A network that is shown u and asked for the labels of v cannot know the errors of the
latter; the best it can do is the probability of each label, given u. What is always wrong (total variation lacks what
is smaller than a few pixels) it learns as well. Therefore the labels are made with less of it than is best for a
picture: more of their errors are noise, and fewer are systematic (docs/decisions/0045).

The output y of the network is an image, as in denoising, from which the probability follows:

    p = 1 / (1 + exp(-(y - threshold) / softness)),        loss: the cross entropy of p and the label.

With `guided` networks y begins as total variation of u, and p as a soft version of the simple labels. The threshold is
that of Otsu (IEEE Trans. Syst. Man Cybern. 9, 1979), which parts the grey values of what total variation makes of the
pairs into two classes best, and the softness a part of the distance of their means. Both, and the strength of total
variation, scale with the images, so that the segmentation does not depend on their unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tango_jit.learn.noise2inverse import valid
from tango_jit.learn.tasks.task import Numbers, Task
from tango_jit.learn.total_variation import total_variation

THRESHOLD, SOFTNESS, SMOOTHING = "threshold", "softness", "smoothing"
WEAK = 0.3  # strength for the labels, in that of the best picture
SOFT = 8  # softness in the distance of the classes: their means are at p = 0.02 and 0.98


class Segment(Task):
    """What is above the threshold, 0 to 1. The accuracy compares it with the raw image cut at the same threshold."""

    name = "SEGMENT"
    shows = "the probability, 0 to 1, that a pixel is above the threshold"
    simply = "slices are shown cut at the threshold as reconstructed"
    numbers: Mapping[str, float] = MappingProxyType({THRESHOLD: 0.0, SOFTNESS: 1.0, SMOOTHING: 0.0})

    def target(self, other: Tensor, numbers: Numbers) -> Tensor:
        """Labels, 0 or 1."""
        return self.simple(total_variation(other, numbers[SMOOTHING]), numbers)

    def loss(self, output: Tensor, target: Tensor, weights: Tensor, numbers: Numbers) -> Tensor:
        return binary_cross_entropy_with_logits(_logits(output, numbers), target, weights)

    def picture(self, output: Tensor, numbers: Numbers) -> Tensor:
        return _logits(output, numbers).sigmoid()

    def simple(self, image: Tensor, numbers: Numbers) -> Tensor:
        return (image > numbers[THRESHOLD]).to(image.dtype)

    def measure(self, images: Tensor, counts: Tensor, halo: int, strength: float) -> dict[str, float] | None:
        smooth = total_variation(images, strength)
        values = valid(smooth, halo)[valid(counts, halo) > 0].cpu().numpy()
        if not len(values) or not np.isfinite(values).all() or values.min() == values.max():
            return None
        threshold = float(threshold_otsu(values))
        distance = float(values[values > threshold].mean() - values[values <= threshold].mean())
        return {THRESHOLD: threshold, SOFTNESS: distance / SOFT, SMOOTHING: WEAK * strength}


def _logits(output: Tensor, numbers: Numbers) -> Tensor:
    return (output - numbers[THRESHOLD]) / numbers[SOFTNESS]
