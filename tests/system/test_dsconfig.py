"""The devices as a file for json2tango, by the real programs of dsconfig on a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tango

from devices.registration import SERVERS, register
from tango_jit.streams.probe import address

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("programs_on_path")]


def call(program: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


def written(path: Path, *arguments: str) -> dict[str, Any]:
    call(sys.executable, "-m", "devices.cli", "register", "--dsconfig", str(path), *arguments)
    return json.loads(path.read_text())["servers"]


def test_the_file_says_what_register_writes(programs_on_path, pytango_db, tmp_path):
    """Ports are drawn; all else is the same."""
    host, port = pytango_db.split(":")
    database = tango.Database(host, int(port))
    register(database, prefix="hall", instance="7", host="127.0.0.2")
    tree = written(tmp_path / "jit.json", "--prefix", "hall", "--instance", "7", "--host", "127.0.0.2")
    assert list(tree) == [server.script for server in SERVERS]
    for server in SERVERS:
        device = server.device("hall", "7")
        said = tree[server.script]["7"][server.device_class][device]["properties"]
        names = [str(one) for one in list(database.get_device_property_list(device, "*") or ())]
        known = {name: list(value) for name, value in database.get_device_property(device, names).items()}
        assert set(said) == set(known)
        for name, value in said.items():
            if name in server.endpoints:
                assert [address(one[0])[0] for one in (value, known[name])] == 2 * ["127.0.0.2"]  # type: ignore[index]
            else:
                assert value == known[name]


def test_json2tango_writes_it_and_tango2json_gives_it_back(programs_on_path, pytango_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # json2tango may leave a file of what was before
    tree = written(tmp_path / "jit.json")
    call("json2tango", "-w", "jit.json", codes=(0, 2))  # 2: something was written
    call("json2tango", "-w", "jit.json")  # again: there is nothing to do
    for server in SERVERS:
        back = json.loads(call("tango2json", f"server:{server.script}/1"))["servers"]
        (member,) = back[server.script]["1"][server.device_class].values()
        (wanted,) = tree[server.script]["1"][server.device_class].values()
        assert member["properties"] == wanted["properties"]
    host, port = pytango_db.split(":")
    database = tango.Database(host, int(port))
    database.put_device_property("jit/trainer/1", {"Settings": ["kept by the device"]})
    register(database)  # what is there stays
    call("json2tango", "-w", "-u", "jit.json", codes=(0, 2))
    assert list(database.get_device_property("jit/trainer/1", "Settings")["Settings"]) == ["kept by the device"]
    endpoint = database.get_device_property("jit/trainer/1", "WeightsEndpoint")["WeightsEndpoint"][0]
    assert [endpoint] == tree["tango-jit-trainer"]["1"]["JitTrainer"]["jit/trainer/1"]["properties"]["WeightsEndpoint"]


def test_a_file_that_cannot_be_written_is_told_in_words(tmp_path):
    command = [sys.executable, "-m", "devices.cli", "register", "--dsconfig", str(tmp_path / "none" / "jit.json")]
    environment = {name: value for name, value in os.environ.items() if name != "TANGO_HOST"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 1
    assert "No such file" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
