"""The tables of docs/explanations/paper.md, written between its marks from what was run: no figure is typed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.paper.family import CAUSAL, FORMS, NAMES, settings_of
from benchmarks.paper.online import Online, OnlineTV
from benchmarks.paper.plan import online, plan, shifts
from benchmarks.paper.runs import Shift, Training, longest
from benchmarks.paper.statements import table_rows
from benchmarks.paper.store import Store
from sim.bench.networks import TABLE

NOT_RUN = "not run"
MARK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Cells = list[str]


def table(head: Cells, rows: list[Cells]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def networks(_: Store) -> str:
    """Size and work of the family in both forms, beside the paper's speeds."""
    rows = []
    for one in TABLE:
        cells = [one.name]
        for form in FORMS:
            network = settings_of(one.name, form).network
            cells += [f"{network.parameters:,}", f"{network.macs_per_pixel:,.0f}", str(network.receptive_field)]
        rows.append([*cells, f"{one.samples_per_s:,.0f}", f"{one.hz:g}"])
    head = ["network"]
    head += [f"{form}: {what}" for form in ("true", "released") for what in ("parameters", "MAC/pixel", "field, px")]
    return table([*head, "paper: samples/s", "paper: Hz at 1024²"], rows)


def accuracies(store: Store) -> str:
    """Of Fig. 8: what each network came to, and what the slices were before."""
    rows = [["no network", *(cell for domain in ("A", "B") for cell in _raw(store, domain))]]
    for form in FORMS:
        for name in (*NAMES, *CAUSAL):
            cells = [f"{name}, released" if form == "released" else name]
            for domain in ("A", "B"):
                cells += _came_to(store, longest(store, name, form, domain))
            rows.append(cells)
    head = ["network"]
    head += [
        f"({domain}) {what}"
        for domain in "AB"
        for what in ("time, steps", "accuracy", "ratio of means", "slice xz: PSNR, SSIM, brightness")
    ]
    return table(head, rows)


def _raw(store: Store, domain: str) -> Cells:
    run = longest(store, "Standard", "paper", domain)
    return [NOT_RUN if run is None else "", "1", "1", "" if run is None else _quality(store.result(run.name)["raw"])]


def _quality(slices: Mapping[str, Any]) -> str:
    found = slices["xz"]
    return f"{found['psnr_db']:.1f} dB, {found['ssim']:.3f}, {found['brightness']:.0%}"


def _came_to(store: Store, run: Training | None) -> Cells:
    if run is None:
        return [NOT_RUN, "", "", ""]
    last = store.result(run.name)["curve"][-1]
    return [
        f"{last['mark_s']:g} s, {last['steps']:,}",
        f"{last['accuracy']:.3f}",
        f"{last['ratio']:.3f}",
        _quality(last["slices"]),
    ]


def errors(store: Store) -> str:
    """Of Fig. 7."""
    rows = []
    for run in shifts():
        if not isinstance(run, Shift):
            continue
        cells = [run.title, run.old.domain, run.new.domain]
        if store.done(run.name):
            last = store.result(run.name)["curve"][-1]
            rows.append(
                [*cells, *(f"{last[key]:.3f}" for key in ("old_at_home", "old", "new")), f"{last['error']:+.3f}"]
            )
        else:
            rows.append([*cells, NOT_RUN, "", "", ""])
    return table(["shift", "D", "E", "old on D", "old on E", "new on E", "error"], rows)


def stream(store: Store) -> str:
    """Of Fig. 10: before the jump, right after it, and at the end."""
    rows = []
    for run in online():
        assert isinstance(run, Online | OnlineTV)
        story = run.story
        moments = (story.moments[0], min(frame for frame in story.frames if frame >= story.jump), story.moments[1])
        if not store.done(run.name):
            rows.append([run.name, NOT_RUN, "", "", "", ""])
            continue
        curve: Mapping[int, Any] = {row["frame"]: row for row in store.result(run.name)["curve"]}
        cells = [f"{curve[at]['accuracy']:.3f}" if at in curve else "" for at in moments]
        slices = [curve[at]["denoised"] for at in story.moments]
        rows.append([run.name, *cells, *(f"{found['psnr_db']:.1f} dB, {found['ssim']:.3f}" for found in slices)])
    head = ["run", "before the jump", "right after", "at the end", "slice before", "slice at the end"]
    return table(head, rows)


def runs(store: Store) -> str:
    """Everything there is to run, and what it costs."""
    rows = []
    for run in plan():
        took = f"{store.result(run.name)['processor_s'] / 60:.1f}" if store.done(run.name) else NOT_RUN
        rows.append([f"`{run.name}`", run.figure, f"{run.cost_s / 60:.0f}", took])
    return table(["run", "figure", "estimated cost, min", "took, min"], rows)


def statements(store: Store) -> str:
    """Of the paper, beside ours."""
    return table(["figure", "the paper says", "here", "holds"], table_rows(store))


TABLES: Mapping[str, Callable[[Store], str]] = {
    "networks": networks,
    "statements": statements,
    "accuracies": accuracies,
    "errors": errors,
    "stream": stream,
    "runs": runs,
}


def write(store: Store, page: Path) -> None:
    """Put each table between its marks."""
    page.write_text(MARK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](store)}\n{found[3]}", page.read_text()))
