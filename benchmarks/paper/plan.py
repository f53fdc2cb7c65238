"""All runs, the ones to do first at the top."""

from __future__ import annotations

from benchmarks.paper.family import CAUSAL, FORMS, NAMES
from benchmarks.paper.online import Online, OnlineTV
from benchmarks.paper.runs import BRIEF, MARKS_S, SHORT, Run, Shift, Training

FIRST = ("Standard", "T3", "Z3", "C16", "V40")
DOMAIN_NAMES = ("A", "B")


def trainings() -> list[Training]:
    """Fig. 8: on a processor the true form of some networks first."""
    first = [Training(name, "paper", domain) for name in (*FIRST, "T3-last") for domain in DOMAIN_NAMES]
    names = (*NAMES, *CAUSAL)
    rest = [Training(name, form, domain) for form in reversed(FORMS) for name in names for domain in DOMAIN_NAMES]
    return list(dict.fromkeys([*first, *rest]))


def briefs() -> list[Training]:
    """A first look at some of them: 80 s."""
    true = [Training(name, "paper", domain, BRIEF) for domain in DOMAIN_NAMES for name in (*FIRST[1:], "T3-last")]
    released = [Training(name, "released", domain, BRIEF) for domain in DOMAIN_NAMES for name in FIRST[:2]]
    return [*true, *released]


def shifts() -> list[Run]:
    """Fig. 7: six pairs of domains, and the trainings that they need."""

    def standard(domain: str) -> Training:
        return Training("Standard", "paper", domain, MARKS_S if domain in DOMAIN_NAMES else SHORT)

    pairs = {
        "reposition": ("top", "bottom"),
        "tilt": ("horizontal", "vertical"),
        "zoom": ("A", "zoomed"),
        "next-12s": ("A", "next"),
        "25min-later": ("A", "later"),
        "other-experiment": ("A", "B"),
    }
    found = [Shift(title, standard(old), standard(new)) for title, (old, new) in pairs.items()]
    domains = dict.fromkeys(domain for pair in pairs.values() for domain in pair if domain not in DOMAIN_NAMES)
    return [*(standard(domain) for domain in domains), *found]


def online() -> list[Run]:
    """Fig. 10 and 11: as the paper's software ran it, then as the paper describes the network."""
    strategies = [(320, False), (32, False), (0, False), (0, True)]
    learned: list[Run] = [Online(*strategy, form=form) for form in reversed(FORMS) for strategy in strategies]
    return [OnlineTV(), *learned]


def plan() -> list[Run]:
    """In the order in which they are to be done."""
    fig8 = trainings()
    return [*fig8[:2], *shifts(), *online()[:5], *briefs(), *fig8[2:], *online()[5:]]
