"""Darks and flats of a camera: which are known, for which frames, and those that are being taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango_jit.cameras.exposure import Exposure, Form, Role

KEPT = 4  # forms of frames for which fields are remembered


@dataclass(frozen=True, eq=False)
class Field:
    """The mean (rows, cols) float32 of `count` frames of this form; None: only its shape is known."""

    role: Role
    mean: NDArray[np.float32] = field(repr=False)
    count: int
    form: Form | None

    def fits(self, form: Form) -> bool:
        """Is it for frames of this form?"""
        return self.form == form if self.form is not None else self.mean.shape == form[0]


class Fields:
    """The newest dark and flat for each form of frames, and the sums of those that come frame by frame."""

    def __init__(self) -> None:
        self._known: list[Field] = []
        self._sums: dict[tuple[Role, Form], tuple[NDArray[np.float64], int]] = {}

    def add(self, role: Role, frame: Exposure) -> None:
        """One more frame of a field that is being taken; one of another form begins it anew."""
        key = role, frame.form
        for other in [other for other in self._sums if other[0] == role and other != key]:
            del self._sums[other]
        total, count = self._sums.pop(key, (np.zeros(frame.data.shape), 0))
        self._sums[key] = total + frame.data, count + 1

    def taken(self, but: Role | None = None) -> Iterator[Field]:
        """Fields that are whole now: all that were being taken, but of this role."""
        for key in [key for key in self._sums if key[0] != but]:
            total, count = self._sums.pop(key)
            yield self.know(Field(key[0], (total / count).astype(np.float32), count, key[1]))

    def forget_sums(self) -> None:
        """What was being taken is of another scan."""
        self._sums.clear()

    def know(self, news: Field) -> Field:
        """Remember a field, in place of the one for the same frames."""
        same = [one for one in self._known if one.role == news.role and one.form == news.form]
        self._known = [one for one in self._known if one not in same]
        self._known.append(news)
        of_role = [one for one in self._known if one.role == news.role]
        if len(of_role) > KEPT:
            self._known.remove(of_role[0])
        return news

    def counts(self) -> dict[Role, int]:
        """How many frames the newest dark and flat are the means of."""
        return {one.role: one.count for one in self._known}

    def of(self, form: Form) -> list[Field]:
        """Dark and flat, the newest of each, for frames of this form; from now on they are for these alone."""
        found: dict[Role, Field] = {}
        for one in self._known:
            if one.fits(form):
                found[one.role] = one
        for role, one in found.items():
            if one.form is None:
                self._known.remove(one)
                found[role] = self.know(Field(role, one.mean, one.count, form))
        return [found[role] for role in ("dark", "flat") if role in found]
