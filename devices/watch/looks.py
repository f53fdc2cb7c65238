"""What looks at several devices say together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from devices.watch.look import BELL, Seen
from devices.watch.pictures import Picture
from tango_jit.geometry import SliceGeometry

SILENT_S = 6.0  # a look takes two seconds at most; a device whose call hangs longer does not answer


def source_of(members: Collection[str], looks: Mapping[str, Seen]) -> str:
    """Whose pictures are to be shown: those of the reconstructor where the denoiser is none or does not answer."""
    seen = looks.get("denoiser")
    alone = "denoiser" not in members or (seen is not None and (bool(seen.trouble) or seen.state == "FAULT"))
    return "reconstructor" if alone else "denoiser"


def teller_of_places(members: Collection[str], looks: Mapping[str, Seen], known: bool) -> str:
    """Who says where slices lie: the denoiser where the reconstructor is gone and has told nothing (not `known`)."""
    seen = looks.get("reconstructor")
    gone = "reconstructor" not in members or (seen is not None and bool(seen.trouble))
    return "denoiser" if gone and not known else "reconstructor"


def why_no_pictures(members: Collection[str], looks: Mapping[str, Seen]) -> str:
    """In words, where there are no slices."""
    teller = "reconstructor" if "reconstructor" in members else source_of(members, looks)
    seen = looks.get(teller)
    if seen is None:
        return f"looking for the {teller}" if teller in members else "there is no reconstructor here"
    return seen.trouble or f"no slices yet: {seen.status}"


def changes(before: Seen | None, seen: Seen) -> Iterator[tuple[str, bool]]:
    """What a journal says of a new look at a device: texts, and are they trouble."""
    if seen.trouble:
        if before is None or not before.trouble:
            yield f"{seen.member}: {seen.trouble}", True
    elif before is None or before.trouble or before.state != seen.state:
        yield f"{seen.member} {seen.state}: {seen.status}", seen.state in ("ALARM", "FAULT")
    for name in ("last_error", "last_jump"):
        text = seen.values.get(name)
        if text and before is not None and before.values.get(name) != text:
            yield f"{seen.member}: {text}", name == "last_error"


def is_missed(seen: Seen, name: str, picture: Picture | None) -> bool:
    """Should the picture of a slice have come and did not? One whose read failed is not told again by an event."""
    number = seen.values.get(f"{BELL}{name}")
    if picture is None or picture.source != seen.member:
        late = True
    else:
        late = picture.at_s < seen.at_s - 1 and picture.figures.get("frame_number") != number
    return number is not None and number >= 0 and late


def places_of(seen: Seen) -> dict[str, SliceGeometry]:
    """Where a device says that its slices lie; before the first scan there are no places.

    A denoiser tells no number of pixels: 1 then.
    """
    places = {}
    for name in (n.removeprefix("geometry_") for n in seen.values if n.startswith("geometry_")):
        nine = seen.values[f"geometry_{name}"]
        shape = seen.values.get(f"shape_{name}") or (seen.member == "denoiser" and (1, 1)) or ()
        if nine is not None and len(nine) == 9 and len(shape) == 2:
            places[name] = SliceGeometry(tuple(nine[:3]), tuple(nine[3:6]), tuple(nine[6:]), *(int(n) for n in shape))
    return places


def silent(seen: Seen, now_s: float) -> Seen | None:
    """What was seen so long ago that a call to the device must hang is no state of now: trouble; None: it is fresh."""
    if seen.trouble or now_s - seen.at_s <= SILENT_S:
        return None
    text = f"{seen.device} has not answered for {now_s - seen.at_s:.0f} s"
    return Seen(seen.member, seen.device, now_s, trouble=text)
