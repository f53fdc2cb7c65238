"""Where runs leave what they found: a JSON (and pictures, NPZ) each, and weights in the user's cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

RESULTS = Path(__file__).parents[1] / "results" / "paper"


class Store:
    """`results` are kept with the code; `cache` can be made again, by running again what made it."""

    def __init__(self, results: Path = RESULTS, cache: Path | None = None) -> None:
        self.results = results
        self.cache = cache or platformdirs.user_cache_path("tango-jit") / "paper"
        for folder in (self.results, self.cache):
            folder.mkdir(parents=True, exist_ok=True)

    def done(self, run: str) -> bool:
        return self._json(run).exists()

    def result(self, run: str) -> dict[str, Any]:
        """Raises FileNotFoundError for a run that was not done."""
        return json.loads(self._json(run).read_text())

    def keep(self, run: str, result: Mapping[str, Any], pictures: Mapping[str, NDArray[Any]]) -> None:
        """All of it or nothing: the JSON is written last. `pictures` are kept in float16."""
        with TemporaryDirectory(dir=self.cache) as private:
            if pictures:
                made = Path(private) / "pictures.npz"
                small = {name: picture.astype(np.float16) for name, picture in pictures.items()}
                np.savez_compressed(made, **small)  # pyright: ignore[reportArgumentType]
                self._npz(run).write_bytes(made.read_bytes())
        unfinished = self._json(run).with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result, indent=1) + "\n")
        unfinished.replace(self._json(run))

    def pictures(self, run: str) -> dict[str, NDArray[np.float32]]:
        with np.load(self._npz(run)) as stored:
            return {name: stored[name].astype(np.float32) for name in stored.files}

    def weights(self, run: str, mark: float) -> Path:
        """The checkpoint of a run at a mark."""
        return self.cache / f"{run}-{mark:g}.safetensors"

    def shots(self, run: str) -> Path:
        """Every slice of an online run, for the video."""
        return self.cache / f"{run}-shots.npz"

    def _json(self, run: str) -> Path:
        return self.results / f"{run}.json"

    def _npz(self, run: str) -> Path:
        return self.results / f"{run}.npz"
