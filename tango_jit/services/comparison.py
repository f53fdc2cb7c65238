"""Another version of the weights on the same slices: what the newest ones are compared with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from tango_jit.learn.denoiser import Denoiser
from tango_jit.learn.unet import NetworkConfig
from tango_jit.streams import Weights

NO_IMAGE = np.full((1, 1), np.nan, np.float32)


class Comparison:
    """`choose`, `move` and `forget` may be called from any thread while `values` runs in another one."""

    def __init__(self) -> None:
        self._device = "cpu"
        self._weights: Weights | None = None
        self._engine: Denoiser | None = None

    def choose(self, weights: Weights | None) -> None:
        """Compare with these from now on, however many newer ones come; None: with none."""
        self._weights = weights
        self._build()

    def move(self, device: str) -> None:
        """Go on, on another device ("cpu", "cuda")."""
        self._device = device
        self._build()

    def _build(self) -> None:
        engine = None
        if self._weights is not None:
            engine = Denoiser(device=self._device)
            engine.load(self._weights)
        self._engine = engine

    def forget(self, name: str) -> None:
        """This slice is no more, or elsewhere."""
        if (engine := self._engine) is not None:
            engine.forget(name)

    @property
    def network(self) -> NetworkConfig | None:
        """Of that version; None: there is none."""
        weights = self._weights
        return None if weights is None else NetworkConfig.from_dict(weights.network)

    def nothing(self, name: str) -> dict[str, Any]:
        """Those values where the version cannot be shown what the present one is shown."""
        return {f"compared_{name}": NO_IMAGE, f"comparison_{name}": np.nan}

    def values(self, name: str, *slice_: Any, **how: Any) -> dict[str, Any]:
        """Values of the signals compared_<n> and comparison_<n>; arguments are those of `Denoiser`."""
        image, quality_db = NO_IMAGE, None
        if (engine := self._engine) is not None:
            with suppress(ValueError):  # it sees more neighbours, or other moments, than there are
                result = engine(*slice_, name=name, **how)
                image, quality_db = result.image, result.quality_db
        return {f"compared_{name}": image, f"comparison_{name}": np.nan if quality_db is None else quality_db}
