"""The median of nine, of whole tensors at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def median_of_nine(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Element by element, of nine tensors of one shape.

    Of three sorted triples it is the median of: the largest low one, the median middle one, the smallest high one.
    """
    lows, middles, highs = zip(*(_sorted(*values[i : i + 3]) for i in (0, 3, 6)), strict=True)
    lowest = torch.maximum(torch.maximum(lows[0], lows[1]), lows[2])
    highest = torch.minimum(torch.minimum(highs[0], highs[1]), highs[2])
    return _sorted(lowest, _sorted(*middles)[1], highest)[1]


def _sorted(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    return torch.minimum(a, b), torch.maximum(a, b), c
