"""How many neighbours the published slices have: as many as a receiver wishes, where nothing speaks against it."""

from __future__ import annotations

from collections.abc import Mapping

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.stacks import neighbours
from tango_jit.streams import Publisher
from tango_jit.streams.wishes import depth_wished

PLANES = 3  # of a slice at most: even half, odd half, full
LONGEST_S = 2.0  # an update, with stacks; frames wait meanwhile
SLOW_UPDATES = 2  # so many in a row are no accident


class Stacks:
    """The stacks of each update. `budget_bytes`: the largest that a slice may be on the wire."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self.depth = 1
        """Planes of the slices of the last update."""
        self.problems: dict[str, str] = {}
        """Why there are fewer than are wished, under "neighbours"; empty: there are as many."""
        self._asked: tuple[object, ...] = ()
        self._slow = 0  # updates in a row

    def of(
        self, geometries: Mapping[str, SliceGeometry], scan: ScanGeometry, out: Publisher
    ) -> dict[str, tuple[SliceGeometry, ...]]:
        """What to reconstruct of each slice, the slice itself in the middle. `out` knows what is wished and is made
        ready for messages of this size."""
        wished = depth_wished(out.subscriptions)
        sizes = {name: 4 * PLANES * wished * geometry.rows * geometry.cols for name, geometry in geometries.items()}
        asked = wished, scan, sizes
        if asked != self._asked:
            self._asked, self._slow = asked, 0
        why = self._obstacle(wished, scan, sizes)
        self.problems = {"neighbours": why} if why else {}
        self.depth = 1 if why else wished
        if self.depth > 1:
            out.expect(max(sizes.values(), default=0))
        return {name: neighbours(geometry, self.depth) for name, geometry in geometries.items()}

    def took(self, seconds: float) -> None:
        """The last update took so long."""
        if self.depth > 1:
            self._slow = self._slow + 1 if seconds > LONGEST_S else 0

    def _obstacle(self, wished: int, scan: ScanGeometry, sizes: Mapping[str, int]) -> str:
        """Why slices go out without neighbours; empty: nothing, or none are wished."""
        if wished == 1:
            return ""
        refused = f"slices go out alone, the denoiser wishes stacks of {wished} planes"
        if scan.rows == 1:
            return f"{refused}: a detector of one row sees a single plane, set depth of the trainer to 1"
        large = next((name for name, size in sizes.items() if size > self._budget), None)
        if large is not None:
            size, most = sizes[large] >> 20, self._budget >> 20
            mend = "A smaller slice, or depth 1 of the trainer"
            return f"{refused}: {large} would have {size} MB, expected at most {most} (property BudgetMb). {mend}"
        if self._slow >= SLOW_UPDATES:
            slow = f"{SLOW_UPDATES} updates took more than {LONGEST_S:g} s each"
            return f"{refused}: {slow}. Fewer or smaller slices are tried anew; or set depth of the trainer to 1"
        return ""
