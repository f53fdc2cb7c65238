"""`tango-jit bench`: measure, show, keep."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sim.bench.machine import Watch, describe
from sim.bench.report import Report, shown
from sim.bench.rows import Row, Series
from sim.bench.runner import LIVE, SUITES, UNHURRIED, SuiteError, measure
from sim.bench.timing import Effort
from tango_jit.cores import Budget, budget, usable_cores

console = Console()


def bench(
    suite: Annotated[list[str] | None, typer.Option(help=f"What to measure: {', '.join(SUITES)}; all of them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="In minutes: few repeats, short runs, no long ones.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write all rows; suites that such a file already holds are kept or replaced.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw the plots into this folder (needs matplotlib).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Only suites that --json does not hold yet.")] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0.2, max=1e4, help="Length of the memory run; 10 without --quick.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of all engines; as the servers share the cores.")
    ] = None,
) -> None:
    """Measure what this computer does with the product, beside targets and peers."""
    check(suite, json, markdown, plots, resume)
    report = Report.read(json, describe()) if json is not None else Report(describe())
    effort = Effort.chosen(quick=quick, minutes=minutes)
    if quick and not suite:
        console.print(f"[dim]left out by --quick: {', '.join(UNHURRIED)}; --suite asks for one of them")
    with interrupts():
        names = chosen(suite, report, quick=quick, resume=resume)
        for place, name in enumerate(names, 1):
            report = run(report, name, effort, threads, f"suite {place} of {len(names)}")
            if json is not None:
                report.write(json)
    if markdown is not None:
        markdown.write_text(report.markdown())
    if plots is not None:
        from sim.bench.plots import draw

        for path in draw(report, plots):
            console.print(f"plot: {path}")
    failed = [name for name, facts in report.suites.items() if facts["failed"]]
    if failed:
        raise RuntimeError(f"came to no end: {', '.join(failed)}")


@contextmanager
def interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the servers of the running suite, too; exit status 130."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted: suites that were done are in the file of --json; --resume goes on with the others")
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def chosen(asked: list[str] | None, report: Report, *, quick: bool, resume: bool) -> list[str]:
    """The suites to run: those asked for, else all; the long ones not by themselves in a quick run."""
    names = asked or [name for name in SUITES if not (quick and name in UNHURRIED)]
    done = [s for s, facts in report.suites.items() if not facts["failed"] and (quick or not facts["quick"])]
    return [name for name in names if not resume or name not in done]


def check(asked: list[str] | None, json: Path | None, markdown: Path | None, plots: Path | None, resume: bool) -> None:
    """Raises ValueError for what would come to nothing, before anything is measured."""
    if unknown := set(asked or ()) - set(SUITES):
        raise ValueError(f"--suite: expected one of {', '.join(SUITES)}, got {', '.join(sorted(unknown))}")
    for option, path in (("--json", json), ("--markdown", markdown)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise ValueError(f"{option}: expected a file in a folder that exists, got {path}")
    if plots is not None and find_spec("matplotlib") is None:
        raise ValueError("--plots: expected matplotlib, it is not installed: pip install 'tango-jit[bench]'")
    if resume and json is None:
        raise ValueError("--resume: expected --json with the file to go on with, got none")


def run(report: Report, suite: str, effort: Effort, threads: int | None, place: str) -> Report:
    """The report with this suite; its rows are shown as they come, and below them for how long it has been going on."""
    console.rule(f"[bold]{suite}[/]: {SUITES[suite]}", align="left")
    watch, measured, failed = Watch(), list[Row | Series](), ""
    threads_of = share(threads)
    try:
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with (
            Progress(*columns, console=console, transient=True) as bar,
            closing(measure(suite, effort, threads_of)) as items,
        ):
            task = bar.add_task(f"{place}: {suite}", total=None)
            for item in items:
                measured.append(item)
                if isinstance(item, Row):
                    bar.update(task, description=f"{place}: {suite}, {len(measured)} figures")
                    bar.console.print(line(item))
    except SuiteError as error:
        failed = str(error)
        console.print(f"[red]{suite} came to no end: {escape(failed)}")
    facts = watch.seen() | {"threads": told(suite, threads_of), "quick": effort.quick, "failed": failed}
    return report.with_suite(suite, facts, measured)


def share(threads: int | None) -> Budget:
    """Threads for each kind of work: `threads` for all of them; None: as the servers share this computer."""
    return budget(usable_cores()) if threads is None else Budget(threads, threads, threads, threads)


def told(suite: str, threads: Budget) -> dict[str, int] | None:
    """What the file says of the threads; None: the suite's servers share the cores themselves."""
    return None if suite in LIVE else asdict(threads)


def line(row: Row) -> Table:
    """One row as it is shown on the terminal."""
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=6)
    grid.add_column(ratio=3, justify="right")
    grid.add_column(ratio=4)
    if row.value is None:
        grid.add_row(escape(row.name), "[yellow]-[/]", f"[yellow]{escape(row.note)}")
        return grid
    spread = "" if row.spread is None else f" ({shown(row.spread[0])} to {shown(row.spread[1])})"
    verdict = {True: "[green]met[/]", False: f"[red]{row.missed_by}[/]", None: ""}[row.met]
    if row.target is not None:
        verdict = f"{'≥' if row.better == 'higher' else '≤'} {shown(row.target)} {verdict}"
    if row.peer is not None and row.ratio is not None:
        verdict += f" {shown(row.ratio)} x {escape(row.peer.name)}"
    grid.add_row(escape(row.name), f"{shown(row.value)} {row.unit}{spread}", verdict)
    return grid
