"""The capacity queue of training pairs: a ring in one tensor, made once, the oldest pair overwritten first."""

from __future__ import annotations

import torch
from torch import Tensor


class PairBuffer:
    """The newest `capacity` pairs of halves on `device`.

    A pair is (2, rows, cols) float32, with stacks (2, images, rows, cols); `shape` is that of a half.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 pair, got {capacity}")
        self._ring = torch.zeros(capacity, 2, *shape, device=device)
        self._empty = torch.ones(capacity, device=device)  # 1 where there is no pair
        self.clear()

    @property
    def capacity(self) -> int:
        return len(self._ring)

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, cols) of a patch, or (images, rows, cols)."""
        return tuple(self._ring.shape[2:])

    def __len__(self) -> int:
        """Number of pairs held."""
        return min(self.seen, self.capacity)

    @property
    def fill(self) -> float:
        """Part of the capacity in use, 0 to 1."""
        return len(self) / self.capacity

    def clear(self) -> None:
        """Forget all pairs; the memory stays."""
        self._empty.fill_(1)
        self.seen = 0
        """Pairs added since the buffer was empty."""

    def add(self, pairs: Tensor) -> None:
        """Take over pairs (n, 2, rows, cols) in order of age, the newest last; they are copied. Raises ValueError."""
        if pairs.ndim != self._ring.ndim or pairs.shape[1:] != self._ring.shape[1:]:
            shape = ", ".join(map(str, (2, *self.shape)))
            raise ValueError(f"pairs: expected shape (n, {shape}), got {tuple(pairs.shape)}")
        self.seen += len(pairs)
        pairs = pairs[-self.capacity :]
        at = (self.seen - len(pairs)) % self.capacity
        head = min(len(pairs), self.capacity - at)
        self._empty[: min(self.seen, self.capacity)] = 0
        self._ring[at : at + head] = pairs[:head]
        self._ring[: len(pairs) - head] = pairs[head:]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` different pairs, uniformly at random: (n, 2, rows, cols), a copy. Raises ValueError for fewer.

        `generator` is one of the device. Never waits for it.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"n: expected 1 to {len(self)} pairs, as many as the buffer holds, got {n}")
        order = torch.rand(self.capacity, generator=generator, device=self._ring.device) + self._empty
        return self._ring.index_select(0, order.topk(n, largest=False, sorted=False).indices)

    def newest_last(self) -> Tensor:
        """All pairs in order of age: (len, 2, rows, cols), a copy."""
        return self._ring[: len(self)].roll(-(self.seen % self.capacity) if self.fill == 1 else 0, 0)

    def resized(self, capacity: int) -> PairBuffer:
        """A buffer of another capacity with the newest of these pairs."""
        other = PairBuffer(capacity, self.shape, self._ring.device)
        other.add(self.newest_last())
        return other

    def moved(self, device: torch.device) -> PairBuffer:
        """A copy on another device."""
        other = PairBuffer(self.capacity, self.shape, device)
        other._ring.copy_(self._ring)
        other._empty.copy_(self._empty)
        other.seen = self.seen
        return other
