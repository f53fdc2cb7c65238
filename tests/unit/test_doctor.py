"""What the doctor says of what it sees: of computers, packages, devices and streams that are ill in known ways."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from devices.doctor import database, devices, libraries, machine, streams
from devices.doctor.database import Entry, Registry
from devices.doctor.devices import Answer
from devices.doctor.findings import Finding, Level, ok, together
from devices.doctor.streams import Stream
from tango_jit.streams.probe import Heard

TRAINER = Entry(
    "trainer",
    "jit/trainer/1",
    "tango-jit-trainer/1",
    True,
    4711,
    "left",
    ("127.0.0.1", 40000),
    {"ReconstructorDevice": "jit/reconstructor/1", "WeightsEndpoint": "tcp://127.0.0.1:20000"},
)
DENOISER = Entry(
    "denoiser",
    "jit/denoiser/1",
    "tango-jit-denoiser/1",
    True,
    4712,
    "left",
    properties={"TrainerDevice": "jit/trainer/1", "ReconstructorDevice": "jit/reconstructor/1"},
)
ENTRIES = {"trainer": TRAINER, "denoiser": DENOISER}
WELL = Answer("answers", "", "RUNNING", "14 steps/s", "0.1.0", "left")
ANSWERS = {"trainer": WELL, "denoiser": WELL}
WEIGHTS = Stream("trainer", "weights_endpoint", "tcp://192.0.2.1:20000", "stream", Heard(True, 3, 2.0))


def of(finding: Finding | None, level: Level, *words: str) -> None:
    assert finding is not None
    assert finding.level is level, finding
    assert all(word in f"{finding.found} → {finding.advice}" for word in words), finding


def test_what_is_not_ok_says_what_to_do_and_what_is_ok_does_not():
    with pytest.raises(ValueError, match="advice"):
        Finding("memory", Level.PROBLEM, "none")
    with pytest.raises(ValueError, match="advice"):
        Finding("memory", Level.OK, "much", "buy more")


def test_a_check_that_hangs_or_raises_costs_no_other():
    never = threading.Event()

    def raises() -> Finding:
        raise OSError("no disk")

    began = time.monotonic()
    found = together(
        {"hangs": lambda: ok("x", str(never.wait(600))), "raises": raises, "well": lambda: ok("y", "")}, 0.3
    )
    assert time.monotonic() - began < 60
    assert isinstance(found["hangs"], TimeoutError)
    assert str(found["raises"]) == "no disk"
    assert found["well"] == ok("y", "")
    never.set()


def test_packages_that_are_missing_old_or_not_those_that_were_tested():
    needed = [Requirement("numba>=0.61"), Requirement("h5py>=3.11")]
    known = {"numba": "0.68.1", "h5py": "3.16.0"}
    of(machine.packages(needed, {"numba": "0.68.9", "h5py": "3.16.0"}, known), Level.OK, "numba 0.68.9")
    of(machine.packages(needed, {"numba": "0.70.0", "h5py": "3.16.0"}, known), Level.WARNING, "numba 0.70.0", "0.68.1")
    of(machine.packages(needed, {"numba": "0.60.0", "h5py": "3.16.0"}, known), Level.PROBLEM, "numba 0.60.0", ">=0.61")
    of(machine.packages(needed, {"numba": "0.68.1", "h5py": None}, known), Level.PROBLEM, "h5py is missing")
    of(machine.packages(needed, {"numba": "0.70.0", "h5py": "3.16.0"}, {}), Level.OK)


def test_versions_that_were_tested_are_those_of_the_checkout(tmp_path: Path):
    assert machine.known_versions(machine.CONSTRAINTS)["pytango"].startswith("10.")
    assert machine.known_versions(tmp_path / "none.txt") == {}


def test_memory():
    of(machine.memory(64_000), Level.OK)
    of(machine.memory(1500), Level.WARNING, "1500 MB")
    of(machine.memory(100), Level.PROBLEM, "100 MB")
    assert machine.memory().check == "memory"


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of(machine.folder("f", tmp_path, None), Level.OK, str(tmp_path))
    of(machine.folder("f", tmp_path / "none", None), Level.PROBLEM, "does not exist")
    of(machine.folder("f", tmp_path / "a" / "b", None, made=True), Level.OK, str(tmp_path))
    (tmp_path / "file").write_text("")
    of(machine.folder("f", tmp_path / "file", None), Level.PROBLEM, "is no folder")
    of(machine.folder("f", Path("/proc"), None), Level.PROBLEM, "/proc: ")  # nobody can write there, root neither
    tmp_path.chmod(0o700)
    of(machine.folder("f", tmp_path, tmp_path.stat().st_uid), Level.OK)
    of(machine.folder("f", tmp_path, tmp_path.stat().st_uid + 1), Level.PROBLEM, "cannot be written by the user")
    monkeypatch.setattr(machine, "TOO_FEW_FREE_MB", 1 << 40)
    of(machine.folder("f", tmp_path, None), Level.PROBLEM, "MB free")


def test_libraries():
    well = [{"loading": "torch"}, {"layer": "omp", "threads": 2}, {"gpu": "", "why": "cupy is not installed"}]
    end = {"ended": 0, "words": ""}
    assert {f.level for f in libraries.judge([*well, end], [])} == {Level.OK}
    of(libraries.judge([*well, end], ["jit/trainer/1 (cuda)"])[-1], Level.PROBLEM, "jit/trainer/1", "cupy is not")
    of(libraries.judge([{"loading": "torch"}, {"ended": -4, "words": ""}], [])[0], Level.PROBLEM, "torch", "-4")
    of(libraries.judge([{"loading": "numba"}, {"ended": None, "words": ""}], [])[0], Level.PROBLEM, "did not end")
    of(libraries.judge([{"broken": "h5py", "why": "no libhdf5"}, *well, end], [])[0], Level.PROBLEM, "no libhdf5")
    found = libraries.judge([{"layer": "", "why": "numba: expected a thread-safe layer"}, end], [])
    of(found[1], Level.PROBLEM, "thread-safe", "libgomp1")
    gpu = {"gpu": "H200", "free_mb": 5, "total_mb": 9}
    of(libraries.judge([gpu, end], ["jit/trainer/1 (cuda)"])[-1], Level.OK, "H200")


@pytest.mark.timeout(200)
def test_the_libraries_of_this_environment_load():
    found = libraries.look()
    assert found[-1] == {"ended": 0, "words": found[-1]["words"]}
    assert next(one for one in found if "layer" in one)["layer"] in ("omp", "tbb")


def test_libraries_that_hang_are_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho \'{"loading": "torch"}\'\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setattr(libraries.sys, "executable", str(program))
    of(libraries.judge(libraries.look(limit_s=2.0), [])[0], Level.PROBLEM, "loading torch did not end")


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (WELL, Level.OK, "RUNNING: 14 steps/s"),
        (replace(WELL, state="ALARM", status="weights are old"), Level.WARNING, "weights are old"),
        (replace(WELL, state="FAULT", status="cannot bind"), Level.PROBLEM, "cannot bind"),
        (replace(WELL, state="INIT", status="starting"), Level.WARNING, "starting"),
        (Answer("not started"), Level.PROBLEM, "start tango-jit-trainer 1"),
        (Answer("refused", "nobody listens"), Level.PROBLEM, "gone"),
        (Answer("elsewhere", "it listens at 127.0.0.1:1 of there alone"), Level.PROBLEM, "can reach it from here"),
        (Answer("unreachable", "timed out"), Level.PROBLEM, "firewall"),
        (Answer("hangs", "timeout", stopped=True), Level.PROBLEM, "kill -CONT 4711"),
        (Answer("hangs", "timeout"), Level.PROBLEM, "does not answer"),
    ],
)
def test_devices(answer: Answer, level: Level, words: str):
    of(devices.judge(TRAINER, answer), level, words)


def test_a_server_that_listens_on_another_computer_alone_is_not_dead():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and not listened at
        there = replace(TRAINER, exported=True, host="other-host", address=free.getsockname())
        (answer,) = devices.look("127.0.0.1:1", {"trainer": there}).values()
        assert answer.reached == "elsewhere"
        assert "of other-host alone" in answer.why
        (answer,) = devices.look("127.0.0.1:1", {"trainer": replace(there, host="")}).values()
        assert answer.reached == "refused"


def test_a_recorder_may_be_left_off():
    recorder = replace(TRAINER, member="recorder", device="jit/recorder/1", server="tango-jit-recorder/1")
    of(devices.judge(recorder, Answer("not started")), Level.WARNING, "on purpose")


def test_a_supervisor_sends_to_those_that_it_names():
    supervisor = replace(TRAINER, member="supervisor", device="jit/supervisor/1")
    told = replace(WELL, state="FAULT", status="trainer: it does not answer")
    of(devices.judge(supervisor, told), Level.PROBLEM, "trainer: it does not answer", "the devices that it names")
    of(devices.judge(supervisor, replace(told, state="ALARM")), Level.WARNING, "the devices that it names")


def test_devices_that_are_not_registered_and_sources_that_are_not_named():
    names = {"trainer": "jit/trainer/1", "denoiser": "jit/denoiser/1"}
    of(devices.registered(Registry({}, ("hall/…/7",)), names)[0], Level.PROBLEM, "none of", "hall/…/7")
    of(devices.registered(Registry({"trainer": TRAINER}), names)[0], Level.PROBLEM, "jit/denoiser/1 missing")
    assert [f.level for f in devices.registered(Registry(ENTRIES), names)] == [Level.OK]
    lost = {**ENTRIES, "trainer": replace(TRAINER, properties={})}
    of(devices.registered(Registry(lost), names)[1], Level.PROBLEM, "ReconstructorDevice is not set")


def test_versions_differ():
    of(devices.versions(ENTRIES, ANSWERS, "0.1.0")[0], Level.OK, "0.1.0 everywhere")
    of(devices.versions(ENTRIES, ANSWERS, "0.2.0")[0], Level.WARNING, "jit/trainer/1 0.1.0", "0.2.0")
    other = {**ANSWERS, "denoiser": replace(WELL, version="0.3.0")}
    of(devices.versions(ENTRIES, other, "0.1.0")[0], Level.WARNING, "jit/denoiser/1 0.3.0")
    camera = {"trainer": replace(WELL, version="")}
    assert devices.versions(ENTRIES, camera, "0.1.0") == []


def test_slices_that_are_missing():
    entries = {**ENTRIES, "reconstructor": replace(TRAINER, member="reconstructor", device="jit/reconstructor/1")}
    made = replace(WELL, values={"slice_xy": True, "slice_tilted": True, "slices_endpoint": "tcp://127.0.0.1:1"})
    shown = replace(WELL, values={"slice_names": "xy"})
    of(devices.slices(entries, {"reconstructor": made, "denoiser": shown})[0], Level.WARNING, "not show tilted")
    both = replace(WELL, values={"slice_names": "xy tilted"})
    of(devices.slices(entries, {"reconstructor": made, "denoiser": both})[0], Level.OK, "tilted, xy")
    none = replace(WELL, values={"slices_endpoint": "tcp://127.0.0.1:1"})
    of(devices.slices(entries, {"reconstructor": none, "denoiser": both})[0], Level.PROBLEM, "has none")


def test_a_stream_that_flows_rests_or_cannot_be_connected_to():
    def said(stream: Stream, **answers: Answer) -> Finding | None:
        return streams.judge(stream, ENTRIES, ANSWERS | answers)

    resting = replace(WELL, state="STANDBY")
    images = replace(WEIGHTS, member="denoiser", attribute="denoised_endpoint")
    of(said(WEIGHTS), Level.OK, "data, 1 messages/s")
    of(said(replace(WEIGHTS, heard=Heard(True, 1))), Level.OK, "the last weights came")
    of(said(replace(images, heard=Heard(True, 1))), Level.OK, "one message")
    of(said(replace(images, heard=Heard(True))), Level.WARNING, "connected, no data", "RUNNING")
    of(said(replace(images, heard=Heard(True)), denoiser=resting), Level.OK, "connected, no data", "STANDBY")
    of(said(replace(images, heard=Heard(False))), Level.PROBLEM, "cannot connect", "shake hands")
    of(said(replace(images, reached="refused")), Level.PROBLEM, "cannot connect: nobody listens")
    of(said(replace(images, reached="silent")), Level.PROBLEM, "cannot connect", "stands still")
    of(said(replace(images, reached="foreign")), Level.PROBLEM, "cannot connect", "does not speak ZeroMQ")
    of(said(replace(images, reached="unreachable")), Level.PROBLEM, "no answer", "DenoisedEndpoint")
    assert said(WEIGHTS, trainer=Answer("not started")) is None


def test_a_port_of_somebody_else():
    taken = replace(WEIGHTS, listener=(99, "nc"))
    for answer in (WELL, Answer("not started")):
        of(
            streams.judge(taken, ENTRIES, {**ANSWERS, "trainer": answer}),
            Level.PROBLEM,
            "nc, process 99",
            "WeightsEndpoint",
        )
    own = replace(WEIGHTS, listener=(4711, "python"))
    of(streams.judge(own, ENTRIES, ANSWERS), Level.OK)


def test_an_endpoint_on_loopback_that_another_computer_needs(monkeypatch: pytest.MonkeyPatch):
    loopback = replace(WEIGHTS, endpoint="tcp://127.0.0.1:20000")
    apart = {**ANSWERS, "denoiser": replace(WELL, host="right")}
    monkeypatch.setattr(devices.socket, "gethostname", lambda: "left")
    of(streams.judge(loopback, ENTRIES, apart), Level.OK, "data")
    of(streams.reachable_for_all(loopback, ENTRIES, apart), Level.PROBLEM, "jit/denoiser/1 runs on right", "of left")
    assert streams.reachable_for_all(loopback, ENTRIES, ANSWERS) is None
    assert streams.reachable_for_all(WEIGHTS, ENTRIES, apart) is None
    monkeypatch.setattr(devices.socket, "gethostname", lambda: "third")
    of(streams.judge(loopback, ENTRIES, apart), Level.PROBLEM, "on left alone", "jit/denoiser/1 runs on right")
    of(streams.judge(loopback, ENTRIES, ANSWERS), Level.WARNING, "run this on left")
    assert streams.reachable_for_all(loopback, ENTRIES, apart) is None


def test_endpoints_are_those_that_are_said_else_those_that_were_allotted():
    assert streams.endpoints(TRAINER, Answer("hangs")) == {"weights_endpoint": "tcp://127.0.0.1:20000"}
    said = replace(WELL, values={"weights_endpoint": "tcp://127.0.0.1:30000"})
    assert streams.endpoints(TRAINER, said) == {"weights_endpoint": "tcp://127.0.0.1:30000"}
    free = replace(TRAINER, properties={"WeightsEndpoint": "tcp://127.0.0.1:*"})
    assert streams.endpoints(free, Answer("hangs")) == {}


def test_the_address_in_a_reference_is_read_and_nonsense_is_none():
    profile = bytes([1, 1, 2, 0]) + (10).to_bytes(4, "little") + b"127.0.0.1\0" + (40123).to_bytes(2, "little")
    kind = b"IDL:Tango/Device_6:1.0\0"
    data = bytes([1, 0, 0, 0]) + len(kind).to_bytes(4, "little") + kind.ljust(24, b"\0")
    data += b"".join(n.to_bytes(4, "little") for n in (1, 0, len(profile))) + profile
    assert database.address_of("IOR:" + data.hex()) == ("127.0.0.1", 40123)
    for nonsense in ("", "IOR:", "IOR:00", "IOR:xyz", "nada", "IOR:" + data[:40].hex()):
        assert database.address_of(nonsense) is None


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (None, "not set"),
        ("nonsense", "expected one HOST:PORT"),
        ("127.0.0.1:99999", "expected one HOST:PORT"),
        ("127.0.0.1:1", "nobody listens at 127.0.0.1:1"),
        ("no-such-host.invalid:10000", "no-such-host.invalid:10000"),
    ],
)
def test_a_database_that_is_not_there(host: str | None, words: str):
    of(database.reach(host), Level.PROBLEM, words)
