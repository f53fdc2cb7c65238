"""The table of `tango-jit bench`: arithmetic of rows, merging of suites, what is said of what was not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numba
import pytest
import torch
from numba.core import config

from sim.bench import machine, threads
from sim.bench.command import check, chosen, share, told
from sim.bench.machine import check_same, describe, stolen
from sim.bench.report import Report
from sim.bench.rows import Figure, Peer, Row, Series
from sim.bench.runner import SUITES, UNHURRIED
from sim.bench.suites import gpu
from sim.bench.timing import Effort, side_by_side, timed
from tango_jit.cores import Budget, budget, usable_cores
from tango_jit.recon import backproject

COMPUTER = {
    "cpu": "a processor",
    "cores": 2,
    "memory_gb": 8.0,
    "system": "Linux",
    "python": "3.11",
    "versions": {"numpy": "2.0"},
    "revision": None,
}
FACTS = {
    "measured": "2026-01-01T00:00:00Z",
    "took_s": 1.0,
    "load_average": [0.1, 0.2],
    "steal_percent": None,
    "threads": 2,
    "quick": False,
    "failed": "",
}


@pytest.mark.parametrize(
    ("unit", "value", "target", "met", "missed_by"),
    [
        ("Hz", 50.0, 50.0, True, ""),
        ("Hz", 40.0, 50.0, False, "20 % below"),
        ("ms", 5.0, 5.0, True, ""),
        ("ms", 7.5, 5.0, False, "50 % above"),
        ("frames", 0.0, 0.0, True, ""),
        ("frames", 3.0, 0.0, False, "3 frames too many"),
        ("ms", 7.5, None, None, ""),
    ],
)
def test_met_is_told_by_the_unit(unit, value, target, met, missed_by):
    row = Row("what", unit, value, target=target)
    assert row.met is met
    assert row.missed_by == missed_by


def test_ratio_says_how_many_times_better():
    assert Row("what", "ms", 5.0, peer=Peer("slow", 20.0)).ratio == pytest.approx(4.0)
    assert Row("what", "Hz", 5.0, peer=Peer("fast", 20.0)).ratio == pytest.approx(0.25)
    assert Row("what", "ms", 5.0).ratio is None
    assert Row("what", "ms", 0.0, peer=Peer("slow", 20.0)).ratio is None


def test_a_row_that_was_not_run_says_why():
    row = Row.not_run("what", "ms", "no CUDA device", target=0.2)
    assert row.to_dict() | {"value": None, "met": None, "ratio": None, "spread": None} == row.to_dict()
    assert row.to_dict()["note"] == "not run: no CUDA device"
    with pytest.raises(ValueError, match="says why there is none"):
        Row("what", "ms", None)
    with pytest.raises(ValueError, match=r"unit of 'what': expected one of .*, got 'parsec'"):
        Row("what", "parsec", 1.0)


def test_figures_are_medians_with_quartiles():
    figure = Figure.of([4.0, 1.0, 2.0, 3.0, 100.0])
    assert (figure.value, figure.spread, figure.best, figure.repeats) == (3.0, (2.0, 4.0), 1.0, 5)
    rate = figure.rate(30)  # 30 in 3 ms
    assert rate.value == pytest.approx(10_000)
    assert rate.spread == pytest.approx((7_500, 15_000))
    assert rate.best == pytest.approx(30_000)


def test_variants_take_turns_after_a_warm_up():
    calls: list[str] = []
    figures = side_by_side(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, Effort(repeats=3), warm_up=1
    )
    assert calls == ["a", "b", *"ab" * 3]
    assert figures["a"].repeats == 3


def test_what_comes_before_is_not_timed():
    done: list[str] = []
    timed(lambda: done.append("work"), Effort(repeats=2), warm_up=0, before=lambda: done.append("before"))
    assert done == ["before", "work"] * 2


def test_repeats_end_when_they_take_too_long():
    assert timed(lambda: None, Effort(repeats=50, longest_s=0.0)).repeats == 3


def test_rows_and_curves_survive_the_file(tmp_path):
    row = Row("what", "ms", 1.25, (1.0, 1.5), 0.5, 20, 2.0, Peer("other", 5.0), "a note")
    curve = Series("sizes", "slice", (1.0, 2.0), (3.0, 4.0), "side", "ms")
    report = Report(COMPUTER).with_suite("pairs", FACTS, [row, curve])
    path = tmp_path / "out.json"
    report.write(path)
    assert Report.read(path, COMPUTER) == report
    content = json.loads(path.read_text())
    assert set(content) == {"machine", "suites", "rows", "series"}
    expected = {"name", "value", "unit", "spread", "target", "met", "peer", "ratio"}
    assert expected <= set(content["rows"][0])
    assert content["rows"][0]["met"] is True
    assert content["rows"][0]["ratio"] == pytest.approx(4.0)


def test_a_suite_measured_again_takes_the_place_of_the_earlier_one():
    rows = [Row("first", "ms", 1.0), Row("second", "ms", 2.0)]
    report = Report(COMPUTER)
    for suite in ("pairs", "transport"):
        report = report.with_suite(suite, FACTS, rows)
    again = report.with_suite("pairs", FACTS | {"took_s": 9.0}, [Row("first", "ms", 3.0)])
    assert [(r.suite, r.name, r.value) for r in again.rows] == [
        ("pairs", "first", 3.0),
        ("transport", "first", 1.0),
        ("transport", "second", 2.0),
    ]
    assert again.suites["pairs"]["took_s"] == 9.0
    assert list(again.suites) == ["pairs", "transport"]


def test_rows_of_a_suite_have_names_of_their_own():
    with pytest.raises(ValueError, match="suite pairs: expected a name for each row, got twice: first"):
        Report(COMPUTER).with_suite("pairs", FACTS, [Row("first", "ms", 1.0), Row("first", "ms", 2.0)])


def test_another_computer_has_a_file_of_its_own(tmp_path):
    path = tmp_path / "out.json"
    Report(COMPUTER).write(path)
    with pytest.raises(ValueError, match=r"cores 4.*one with 2"):
        Report.read(path, COMPUTER | {"cores": 4})
    path.write_text('{"rows": []}')
    with pytest.raises(ValueError, match="expected a file that `tango-jit bench` wrote"):
        Report.read(path, COMPUTER)
    check_same(COMPUTER, COMPUTER | {"python": "3.12"})  # the same computer


def test_resume_goes_on_with_what_is_missing():
    report = Report(COMPUTER).with_suite("pairs", FACTS, []).with_suite("live", FACTS | {"failed": "no port"}, [])
    report = report.with_suite("stages", FACTS | {"quick": True}, [])
    left = chosen(None, report, quick=False, resume=True)
    assert "pairs" not in left
    assert {"live", "stages", "memory"} <= set(left)  # failed, measured in a hurry, not measured
    assert chosen(None, report, quick=True, resume=False) == [name for name in SUITES if name not in UNHURRIED]
    assert chosen(["memory"], report, quick=True, resume=False) == ["memory"]


def test_what_would_come_to_nothing_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"--suite: expected one of .*got pears"):
        check(["pears"], None, None, None, False)
    with pytest.raises(ValueError, match="--json: expected a file in a folder that exists"):
        check(None, tmp_path / "no" / "out.json", None, None, False)
    with pytest.raises(ValueError, match="--resume: expected --json"):
        check(None, None, None, None, True)


def test_markdown_tells_targets_peers_and_gaps():
    rows = [
        Row("fast", "ms", 1.0, (0.9, 1.1), 0.9, 20, 2.0, Peer("other", 5.0)),
        Row("slow", "Hz", 8.0, target=10.0),
        Row.not_run("absent", "Hz", "no CUDA device", target=10.0),
    ]
    text = Report(COMPUTER).with_suite("pairs", FACTS, rows).markdown()
    assert "Targets: 1 met, 1 missed, 1 not run" in text
    assert "| fast | 1 ms | 0.9 to 1.1 | ≤ 2 | yes | other: 5 | 5 |" in text
    assert "| slow | 8 Hz |  | ≥ 10 | no, 20 % below |  |  |" in text
    assert "| absent | not run: no CUDA device |  | ≥ 10 |  |  |  |" in text


def test_a_suite_that_was_kept_tells_its_own_revision_and_versions(tmp_path):
    path = tmp_path / "out.json"
    before = COMPUTER | {"revision": "aaa", "versions": {"numpy": "2.0", "itk-rtk": None, "scipy": "1.0"}}
    after = COMPUTER | {"revision": "bbb", "versions": {"numpy": "2.1", "itk-rtk": "2.7", "scipy": "1.0"}}
    Report(before).with_suite("pairs", FACTS, [Row("first", "ms", 1.0)]).write(path)
    report = Report.read(path, after).with_suite("live", FACTS, [Row("second", "ms", 1.0)])
    head, pairs, live = report.markdown().split("\n## ")
    assert "revision bbb. Suites of another revision or other versions say so." in head
    assert "Measured with revision aaa, numpy 2.0, itk-rtk missing." in pairs
    assert "Measured with" not in live
    again = Report.read(path, before).markdown()
    assert "Measured with" not in again
    assert "another revision" not in again


def test_a_file_that_does_not_tell_revisions_is_read(tmp_path):
    path = tmp_path / "out.json"
    report = Report(COMPUTER, {"pairs": FACTS}, (Row("first", "ms", 1.0, suite="pairs"),))
    report.write(path)
    read = Report.read(path, COMPUTER | {"revision": "bbb"})
    assert read.rows == report.rows
    _, pairs = read.markdown().split("\n## ")
    assert "Revision and versions are not known." in pairs


def test_time_taken_away_by_the_host_is_told():
    before = [100, 0, 50, 800, 0, 0, 0, 50, 0, 0]
    after = [150, 0, 60, 810, 0, 0, 0, 80, 0, 0]
    assert stolen(before, after) == pytest.approx(30.0)
    assert stolen(None, after) is None


def test_the_computer_is_described():
    told = describe()
    assert told["cores"] == os.cpu_count()
    assert told["memory_gb"] > 0
    assert told["versions"]["torch"]
    assert told["versions"]["numpy"]
    here = Path(machine.__file__).parents[2]
    assert (told["revision"] is None) is not (here / ".git").exists()


def test_the_cuda_backend_is_measured_or_says_why_not():
    obstacle = backproject.obstacle("cuda")
    if not obstacle:
        pytest.skip("there is a CUDA device: tests/gpu")
    rows = list(gpu.measure(Effort.chosen(quick=True)))
    assert [row.target for row in rows] == [0.2, 10.0, 1500.0, 1000.0, None, None]
    assert [peer for peer in ("FDK_CUDA", "KernelKit") if any(peer in row.name for row in rows)] == [
        "FDK_CUDA",
        "KernelKit",
    ]
    assert all(row.value is None and row.note == f"not run: {obstacle}" for row in rows)


def test_engines_have_the_threads_of_the_servers():
    assert share(None) == budget(usable_cores())
    assert set(asdict(share(3)).values()) == {3}
    before = torch.get_num_threads(), numba.get_num_threads()
    most = config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]
    try:
        threads.begin(Budget(frames=1, slices=2, denoising=3, training=1))
        seen = []
        for work in ("reconstruction", "pairs", "denoising", "training", "pairs"):
            threads.use(work)
            seen.append((torch.get_num_threads(), numba.get_num_threads()))
        assert seen == [(1, min(2, most)), (2, min(2, most)), (3, min(3, most)), (1, 1), (2, min(2, most))]
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (told("pairs", Budget(1, 2, 2, 1)), "threads: frames 1, slices 2, denoising 2, training 1"),
        (told("live", Budget(1, 2, 2, 1)), "threads as the servers share them"),
        (4, "4 threads"),
    ],
)
def test_the_table_says_which_threads_ran(said, words):
    assert f" s, {words};" in Report(COMPUTER).with_suite("pairs", FACTS | {"threads": said}, []).markdown()


@pytest.mark.timeout(300)
def test_a_quick_run_of_a_suite_writes_rows(tmp_path):
    """The command as a user types it."""
    out, table = tmp_path / "out.json", tmp_path / "out.md"
    command = [sys.executable, "-m", "devices.cli", "bench", "--quick", "--suite", "transport"]
    result = subprocess.run(
        [*command, "--json", str(out), "--markdown", str(table)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(out.read_text())
    rows = [Row.from_dict(row) for row in content["rows"]]
    assert [row.to_dict() for row in rows] == content["rows"]
    assert len(rows) == 4
    for row in rows:
        assert row.suite == "transport"
        assert row.value is not None
        assert row.spread is not None
        assert 0 < row.spread[0] <= row.value <= row.spread[1]
        assert row.repeats >= 3
    assert content["suites"]["transport"]["threads"] == asdict(budget(usable_cores()))
    assert "image of 2048²" in table.read_text()
