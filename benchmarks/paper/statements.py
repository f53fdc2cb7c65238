"""What the paper says of its figures, and whether ours say it too: judged from what was run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.paper.family import NAMES
from benchmarks.paper.online import Online
from benchmarks.paper.plots import strategies
from benchmarks.paper.runs import longest
from benchmarks.paper.store import Store

SMALL = 0.01  # a difference of accuracies that is called one
SATISFACTORY = 0.6


class Verdict(NamedTuple):
    ours: str
    holds: bool


Judge = Callable[[Store], Verdict | None]  # None: not run


def last_error(store: Store, title: str) -> float | None:
    name = f"shift-{title}"
    return store.result(name)["curve"][-1]["error"] if store.done(name) else None


def shift(title: str, loses: bool) -> Judge:
    def judge(store: Store) -> Verdict | None:
        error = last_error(store, title)
        return None if error is None else Verdict(f"error {error:+.3f}", (error > SMALL) == loses)

    return judge


def zoom_is_worst(store: Store) -> Verdict | None:
    errors = {title: last_error(store, title) for title in ("reposition", "tilt", "zoom")}
    known = {title: error for title, error in errors.items() if error is not None}
    if len(known) < len(errors):
        return None
    told = ", ".join(f"{title} {error:+.3f}" for title, error in known.items())
    return Verdict(told, max(known, key=known.__getitem__) == "zoom")


def all_learn(store: Store) -> Verdict | None:
    """Within the time that they had."""
    done = [longest(store, name, "paper", domain) for name in NAMES for domain in ("A", "B")]
    found = {run.name: store.result(run.name)["curve"][-1]["accuracy"] for run in done if run is not None}
    if not found:
        return None
    worst = max(found, key=found.__getitem__)
    return Verdict(f"{len(found)} trainings, the worst {found[worst]:.3f} ({worst})", found[worst] < SATISFACTORY)


def beats_standard(network: str, domain: str) -> Judge:
    """After the same time."""

    def judge(store: Store) -> Verdict | None:
        found: list[dict[float, Any]] = []
        for name in (network, "Standard"):
            run = longest(store, name, "paper", domain)
            if run is None:
                return None
            found.append({row["mark_s"]: row["accuracy"] for row in store.result(run.name)["curve"]})
        mark = max(set(found[0]) & set(found[1]))
        ours, standard = found[0][mark], found[1][mark]
        return Verdict(f"{ours:.3f}, Standard {standard:.3f}, after {mark:g} s", ours < standard)

    return judge


def at(store: Store, name: str, frame: int) -> float | None:
    """Accuracy of a strategy at a frame, or at the nearest before it."""
    result = strategies(store).get(name)
    rows = [] if result is None else [row for row in result["curve"] if row["frame"] <= frame]
    return rows[-1]["accuracy"] if rows else None


def better(first: str, second: str, moment: int) -> Judge:
    """Of two strategies, before the jump (0) or at the end (1)."""

    def judge(store: Store) -> Verdict | None:
        frame = Online().story.moments[moment]
        found = at(store, first, frame), at(store, second, frame)
        if found[0] is None or found[1] is None:
            return None
        return Verdict(f"{first} {found[0]:.3f}, {second} {found[1]:.3f}", found[0] < found[1])

    return judge


def beats_total_variation(store: Store) -> Verdict | None:
    """In accuracy and in the PSNR of the slice, before the jump and at the end."""
    found = strategies(store)
    if "N = 320" not in found or "total variation" not in found:
        return None
    told, wins = [], []
    for frame in Online().story.moments:
        network, tv = (
            {row["frame"]: row for row in found[name]["curve"]}[frame] for name in ("N = 320", "total variation")
        )
        told.append(f"{network['accuracy']:.3f} against {tv['accuracy']:.3f}")
        told.append(f"{network['denoised']['psnr_db']:.1f} against {tv['denoised']['psnr_db']:.1f} dB")
        wins += [network["accuracy"] < tv["accuracy"], network["denoised"]["psnr_db"] > tv["denoised"]["psnr_db"]]
    return Verdict(", then ".join([", ".join(told[:2]), ", ".join(told[2:])]), all(wins))


def overtakes(store: Store) -> Verdict | None:
    """How long after the jump the network that learns on is better than the pretrained one, and stays so."""
    found = strategies(store)
    if "N = 320" not in found or "pretrained" not in found:
        return None
    old = {row["frame"]: row["accuracy"] for row in found["pretrained"]["curve"]}
    after = [row for row in found["N = 320"]["curve"] if row["time_s"] >= 0]
    behind = [row["time_s"] for row in after if row["accuracy"] >= old[row["frame"]]]
    ahead = [row["time_s"] for row in after if not behind or row["time_s"] > behind[-1]]
    told = f"from {ahead[0]:.1f} s of the replay on" if ahead else "not within the stream"
    return Verdict(told, bool(ahead))


STATEMENTS: tuple[tuple[str, str, Judge], ...] = (
    ("7a", "a moved slice costs accuracy", shift("reposition", True)),
    ("7b", "a tilted slice costs accuracy", shift("tilt", True)),
    ("7c", "a zoom costs accuracy", shift("zoom", True)),
    ("7", "of these three the zoom costs most", zoom_is_worst),
    ("7d", "the next 12 s cost nothing", shift("next-12s", False)),
    ("7e", "25 minutes later costs accuracy", shift("25min-later", True)),
    ("7f", "the other experiment costs accuracy", shift("other-experiment", True)),
    ("8", "all networks learn to a satisfactory accuracy in 10 minutes", all_learn),
    ("8", "more features help (A)", beats_standard("C16", "A")),
    ("8", "more slices help (A)", beats_standard("Z3", "A")),
    ("8", "more moments help where dynamics are slow (B)", beats_standard("T3", "B")),
    ("8", "larger patches help in (B)", beats_standard("V40", "B")),
    ("10", "a buffer of 320 is better than none", better("N = 320", "no buffer", 0)),
    ("10", "a buffer of 320 is better than one of 32", better("N = 320", "N = 32", 0)),
    ("10", "before the jump the pretrained network is the best", better("pretrained", "N = 320", 0)),
    ("10", "after the jump just-in-time learning overtakes it soon", overtakes),
    ("10", "total variation does not outperform the networks", beats_total_variation),
)


def table_rows(store: Store) -> list[list[str]]:
    """Figure, the paper's statement, ours, whether it holds."""
    rows = []
    for figure, text, judge in STATEMENTS:
        verdict = judge(store)
        ours = ["not run", ""] if verdict is None else [verdict.ours, "yes" if verdict.holds else "**no**"]
        rows.append([figure, text, *ours])
    return rows
