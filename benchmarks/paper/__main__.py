"""python -m benchmarks.paper list | run [NAME ...] [--minutes 60] [--again] | figures

`run` does what is not done yet, in the order of the list, until so many minutes of processor time are spent; a run that
is interrupted costs only itself. Everything runs on one core. `figures` draws what there is into docs/ and writes the
tables of its page.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import numba
import torch

from benchmarks.paper.plan import plan
from benchmarks.paper.runs import Run, perform
from benchmarks.paper.store import Store
from sim.report import machine

DOCS = Path(__file__).parents[2] / "docs"


def run(names: list[str], minutes: float, again: bool, store: Store, runs: list[Run]) -> None:
    """Those of these names (none: all) that are not done, as long as there are minutes left."""
    unknown = set(names) - {one.name for one in runs}
    if unknown:
        raise SystemExit(f"runs: expected names of the list, got {', '.join(sorted(unknown))}")
    began = time.process_time()
    for one in runs:
        if (names and one.name not in names) or (store.done(one.name) and not again):
            continue
        missing = [need for need in one.needs if not store.done(need)]
        if missing:
            print(f"{one.name}: not yet, it needs {', '.join(missing)}", flush=True)
            continue
        if time.process_time() - began + one.cost_s > 60 * minutes:
            print(f"{one.name}: not run, it takes {one.cost_s / 60:.1f} minutes and there are fewer left", flush=True)
            continue
        facts = {"done": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "threads": 1}
        result = perform(one, store, facts)
        print(f"{one.name}: done in {result['processor_s']:.0f} s of processor time", flush=True)


def show(store: Store, runs: list[Run]) -> None:
    """One line for each run."""
    for one in runs:
        state = f"done, {store.result(one.name)['processor_s']:.0f} s" if store.done(one.name) else "not run"
        print(f"{one.name:32}Fig. {one.figure:8}{one.cost_s / 60:6.1f} min  {state}")


def figures(store: Store) -> None:
    """Pictures, the video, and the tables of the page."""
    from benchmarks.paper import page, plots, video  # only these need what draws

    for path in plots.draw(store, DOCS / "images"):
        print(f"{path} {path.stat().st_size // 1000} kB")
    path = DOCS / "images" / "paper_fig10.mp4"
    if video.video(store, path):
        print(f"{path} {path.stat().st_size // 1000} kB")
    page.write(store, DOCS / "explanations" / "paper.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("list", "run", "figures"))
    parser.add_argument("names", nargs="*", help="runs; none: all")
    parser.add_argument("--minutes", type=float, default=60.0, help="processor time to spend")
    parser.add_argument("--again", action="store_true", help="also what is done")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    store = Store()
    if arguments.what == "list":
        show(store, plan())
    elif arguments.what == "figures":
        figures(store)
    else:
        run(arguments.names, arguments.minutes, arguments.again, store, plan())


if __name__ == "__main__":
    main()
