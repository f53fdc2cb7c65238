"""The capacity queue of training pairs: a ring in one tensor, made once, the oldest pair overwritten first."""

from __future__ import annotations

import torch
from torch import Tensor


class PairBuffer:
    """The newest `capacity` samples on `device`.

    A sample is (planes, rows, cols) float32, with stacks (planes, images, rows, cols); `shape` is that of a plane.
    Planes: the two images of a pair, and the weights of their pixels (see noise2inverse.py).
    """

    def __init__(
        self, capacity: int, shape: tuple[int, ...], device: torch.device | str = "cpu", *, planes: int = 2
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 pair, got {capacity}")
        self._ring = torch.zeros(capacity, planes, *shape, device=device)
        self._empty = torch.ones(capacity, device=device)  # 1 where there is no pair
        self.clear()

    @property
    def capacity(self) -> int:
        return len(self._ring)

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, cols) of a patch, or (images, rows, cols)."""
        return tuple(self._ring.shape[2:])

    @property
    def planes(self) -> int:
        return self._ring.shape[1]

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
        """Take over pairs (n, planes, rows, cols), the newest last; they are copied. Raises ValueError."""
        if pairs.ndim != self._ring.ndim or pairs.shape[1:] != self._ring.shape[1:]:
            shape = ", ".join(map(str, (self.planes, *self.shape)))
            raise ValueError(f"pairs: expected shape (n, {shape}), got {tuple(pairs.shape)}")
        self.seen += len(pairs)
        pairs = pairs[-self.capacity :]
        at = (self.seen - len(pairs)) % self.capacity
        head = min(len(pairs), self.capacity - at)
        self._empty[: min(self.seen, self.capacity)] = 0
        self._ring[at : at + head] = pairs[:head]
        self._ring[: len(pairs) - head] = pairs[head:]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` different pairs, uniformly at random: (n, planes, rows, cols), a copy. Raises ValueError for fewer.

        `generator` is one of the device. Never waits for it.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"n: expected 1 to {len(self)} pairs, as many as the buffer holds, got {n}")
        order = torch.rand(self.capacity, generator=generator, device=self._ring.device) + self._empty
        return self._ring.index_select(0, order.topk(n, largest=False, sorted=False).indices)

    def aged(self, first: int, count: int) -> Tensor:
        """`count` pairs in order of age from number `first` on, 0 the oldest: (count, planes, rows, cols), a copy.

        Raises ValueError for pairs that the buffer does not hold.
        """
        if not 0 <= first <= first + count <= len(self):
            raise ValueError(f"pairs: expected numbers from 0 to {len(self)}, got {first} to {first + count}")
        oldest = self.seen % self.capacity if self.fill == 1 else 0
        numbers = torch.arange(oldest + first, oldest + first + count, device=self._ring.device)
        return self._ring.index_select(0, numbers % self.capacity)

    def newest_last(self) -> Tensor:
        """All pairs in order of age: (len, planes, rows, cols), a copy."""
        return self._ring[: len(self)].roll(-(self.seen % self.capacity) if self.fill == 1 else 0, 0)

    def resized(self, capacity: int) -> PairBuffer:
        """A buffer of another capacity with the newest of these pairs."""
        other = PairBuffer(capacity, self.shape, self._ring.device, planes=self.planes)
        other.add(self.newest_last())
        return other

    def moved(self, device: torch.device) -> PairBuffer:
        """A copy on another device."""
        other = PairBuffer(self.capacity, self.shape, device, planes=self.planes)
        other._ring.copy_(self._ring)
        other._empty.copy_(self._empty)
        other.seen = self.seen
        return other
