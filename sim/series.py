"""One series of the simulated detector: which messages a recording becomes. No sockets and no clock."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from sim.disturbances import Disturbance, Disturber, retaken
from sim.faults import Fractions, Injector
from sim.replay import Replay
from tango_jit.streams import FrameSource, Image, Message, SeriesEnd


class Series:
    """Frames of a recording under one name: replayed, disturbed, and struck by faults. See `Replay` for the range."""

    def __init__(
        self,
        source: FrameSource,
        first: int,
        last: int,
        loops: Callable[[], bool],
        how: Disturbance,
        at: int | None = None,
    ) -> None:
        """`at`: index in the recording of the first frame. Raises ValueError for what cannot be replayed like this."""
        self.name = f"{source.header.name or 'recording'}-{uuid.uuid4().hex[:8]}"
        self.source = source
        self.replay = Replay(source, self.name, first, last, loops, at)
        self.made = 0
        """Frames that were made: handed over, or lost by faults."""
        self._stalled = self._retakes = 0
        self._fields = source.dark, source.flat
        self._injector = Injector()
        self._disturb(how)

    def _disturb(self, how: Disturbance) -> None:
        self._disturber = Disturber(how, *self._fields, linear=self.source.header.linear)
        self._frame: Image | None = None

    def preamble(self) -> Iterator[Message]:
        """Header, dark and flat."""
        for message in (self.source.header, self._fields[0], self._disturber.flat):
            if message is not None:
                yield replace(message, series=self.name)

    def change(self, how: Disturbance) -> list[Message]:
        """From now on frames are disturbed like this. Another dose comes with its flat, after all frames of the one
        before: what is returned goes out now. Raises ValueError for a dose that this recording cannot have."""
        before = self._disturber.how
        if how == before:
            return []
        self._disturb(how)
        flat = self._disturber.flat
        if how.dose == before.dose or flat is None:
            return []
        return [*self._injector.flush(), replace(flat, series=self.name)]

    def retake(self) -> list[Message]:
        """Dark and flat are taken again, after all frames so far: what is returned goes out now."""
        self._retakes += 1
        self._fields = retaken(self.source.dark, self.source.flat, self._disturber.how, self._retakes)
        self._disturb(self._disturber.how)
        fields = (self._fields[0], self._disturber.flat)
        return [*self._injector.flush(), *(replace(field, series=self.name) for field in fields if field is not None)]

    def seek(self, index: int) -> None:
        """Go on at `index` of the recording; the window downstream empties itself. ValueError: it is not replayed."""
        self.replay.seek(index)
        self._frame = None

    def next_frame(self) -> Image | None:
        """The frame that is due next, as it is to be sent: read and disturbed only once. None: there is no more."""
        if self._frame is None and (found := self.replay.peek()) is not None:
            self._frame = self._disturber(found[1])
        return self._frame

    def messages(self, image: Image, fractions: Fractions) -> list[Image]:
        """What the next frame becomes on its way."""
        return self._injector.feed(image, fractions)

    def taken(self) -> dict[str, Any]:
        """The next frame is gone. Returns the values that are news."""
        found = self.replay.peek()
        assert found is not None
        news: dict[str, Any] = {"passes": self.replay.passes} if self.replay.take() else {}
        self._frame = None
        self.made += 1
        return {**news, **self.figures(), "position": found[0], "frame_number": found[1].frame}

    def lose(self, frames: int) -> dict[str, Any]:
        """Pass over so many frames, made in a stall and lost. Returns the values that are news."""
        lost = self.replay.skip(frames)
        self._frame = None
        self.made, self._stalled = self.made + lost, self._stalled + lost
        return {"passes": self.replay.passes, **self.figures()}

    def end(self) -> list[Message]:
        """The last messages."""
        return [*self._injector.flush(), SeriesEnd(self.name, self.made)]

    @property
    def turns(self) -> float:
        """Turns since the start."""
        return self.replay.turned_rad / (2 * math.pi)

    def figures(self) -> dict[str, Any]:
        """Counts and rotation as values of the detector."""
        injected = {f"injected_{kind}": count for kind, count in self._injector.counts.items()}
        return {**injected, "injected_stall": self._stalled, "frames_sent": self.made, "rotation": self.turns}
