"""How a denoised picture was made, as a flat table that goes with it: enough to make it again (see runs.remake)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tango_jit.runs.columns import SHARE
from tango_jit.streams import Weights

if TYPE_CHECKING:
    from tango_jit.learn.denoiser import Result  # and PyTorch with it, which the recorder has no use for


class Making:
    """Describes pictures; remembers the digest of the weights in use."""

    def __init__(self) -> None:
        self._weights: Weights | None = None
        self._digest = ""

    def of(self, result: Result, weights: Weights | None, *, enabled: bool) -> dict[str, Any]:
        """The table of one picture.

        `mode`: "halves" or "full", the pass of the network; "none": the slice as reconstructed. `guarded`: the guard
        put that slice, or what the task simply makes of it, in its place. `share_0` and so on, the highest frequencies
        first: how much of the network's change is shown, without them all. `weights_sha256`: of the safetensors.
        """
        if weights is None or result.mode is None or not enabled:
            return {"mode": "none"}
        if weights is not self._weights:
            self._weights, self._digest = weights, digest(weights)
        table: dict[str, Any] = {"mode": result.mode, "guarded": result.guarded, "weights_sha256": self._digest}
        return table | {f"{SHARE}{band}": share for band, share in enumerate(result.shares)}


def digest(weights: Weights) -> str:
    """SHA-256 of the weights themselves, in hexadecimal digits."""
    return hashlib.sha256(weights.tensors).hexdigest()
