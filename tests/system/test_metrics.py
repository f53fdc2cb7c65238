"""What Prometheus gets to see, over real HTTP from real devices; also while a server is dead or stands still."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.events import wait_until

pytestmark = pytest.mark.timeout(400)  # more than the waits of one test together
PROGRAM = [sys.executable, "-m", "devices.cli", "metrics"]
TRAINER = {"device": "jit/trainer/1", "member": "trainer"}
Sample = tuple[str, frozenset[tuple[str, str]]]


class Page:
    """What is served at an address, scraped anew with every look."""

    def __init__(self, address: str) -> None:
        self.address = address

    def scrape(self) -> dict[Sample, float]:
        with urllib.request.urlopen(self.address, timeout=60) as answer:
            text = answer.read().decode()
        return {
            (one.name, frozenset(one.labels.items())): one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """A value now; None: there is none."""
        return self.scrape().get((f"tango_jit_{name}", frozenset(labels.items())))


@pytest.fixture(scope="module")
def page(system, recording) -> Iterator[Page]:
    system.replay(recording)
    system.await_picture("denoiser")
    command = [*PROGRAM, "--port", "0", "--dir", str(system.deployment.folder)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    try:
        yield Page(program.stdout.readline().strip())
        program.terminate()
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait(10)
        program.stdout.close()


def test_figures_have_the_names_and_units_of_prometheus(system, page):
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", page.address)
    seen = page.scrape()
    for member, device in system.deployment.devices.items():
        assert seen["tango_jit_up", frozenset({"device": device, "member": member}.items())] == 1
    names = {name for name, _ in seen}
    assert names >= {
        "tango_jit_frames_received_total",
        "tango_jit_frames_lost_total",
        "tango_jit_steps_total",
        "tango_jit_steps_per_second",
        "tango_jit_latency_seconds",
        "tango_jit_memory_bytes",
        "tango_jit_rate_hertz",
        "tango_jit_info",
    }
    assert not [name for name in names if re.search(r"_(ms|mb|s|hz|percent|xy|xz|yz)$", name)]
    memory = seen["tango_jit_memory_bytes", frozenset(TRAINER.items())]
    assert memory == pytest.approx(system.trainer.memory_mb * 2**20, rel=0.5)


def test_counters_count_and_exactly_one_state_is_on(system, page):
    labels = {"device": "jit/reconstructor/1", "member": "reconstructor"}
    first = page("frames_received_total", **labels)
    assert first
    wait_until(lambda: (page("frames_received_total", **labels) or 0) > first, what="more frames")
    seen = page.scrape()
    here = {
        key: value for (name, key), value in seen.items() if name == "tango_jit_state" and key >= set(labels.items())
    }
    states = {dict(key)["state"]: value for key, value in here.items()}
    assert set(states) == {"INIT", "STANDBY", "RUNNING", "ALARM", "FAULT"}
    assert sum(states.values()) == 1


def test_a_server_that_is_dead_or_stands_still_is_down_and_comes_back(system, page):
    with system.stopped("trainer"):
        wait_until(lambda: page("up", **TRAINER) == 0, 60, "the trainer down")
        assert page("steps_total", **TRAINER) is None
        wait_until(lambda: page("up", device="jit/denoiser/1", member="denoiser") == 1, 60, "the denoiser up")
    wait_until(lambda: page("up", **TRAINER) == 1, 60, "the trainer up again")
    system.kill("trainer")
    wait_until(lambda: page("up", **TRAINER) == 0, 60, "the trainer dead")
    assert page("up", device="jit/denoiser/1", member="denoiser") == 1
    system.restart("trainer")
    wait_until(lambda: page("up", **TRAINER) == 1, 60, "the trainer back")


def test_a_port_that_is_taken_and_a_database_that_is_not_named_are_told_in_words(page, tmp_path):
    port = re.findall(r"\d+", page.address)[-1]
    environment = {name: value for name, value in os.environ.items() if name != "TANGO_HOST"}
    for arguments, words in (
        (["--port", port], f"cannot listen at 127.0.0.1:{port}"),
        (["--port", "0", "--dir", str(tmp_path)], "TANGO_HOST: expected HOST:PORT"),
    ):
        named = environment | ({"TANGO_HOST": "127.0.0.1:1"} if "--dir" not in arguments else {})
        command = [*PROGRAM, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=named, check=False)
        assert done.returncode == 1
        assert words in " ".join(done.stdout.split())
        assert "Traceback" not in done.stdout + done.stderr
