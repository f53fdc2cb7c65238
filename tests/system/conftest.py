"""Four real server processes, a real database, a real recording."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import tango

from devices.deployment import Deployment
from devices.registration import SERVERS
from sim.record import record
from sim.scenario import load
from tests.events import wait_until


class System:
    """A running deployment, and what tests do to it."""

    def __init__(self, deployment: Deployment, host: str) -> None:
        self.deployment, self.host = deployment, host
        self.devices: dict[str, Any] = {m: tango.DeviceProxy(self.name(m)) for m in deployment.devices}

    def name(self, member: str) -> str:
        return f"tango://{self.host}/{self.deployment.devices[member]}"

    def __getattr__(self, member: str) -> Any:
        try:
            return self.__dict__["devices"][member]
        except KeyError:
            raise AttributeError(member) from None

    def kill(self, member: str) -> None:
        """End a server as a crash would."""
        process = self.deployment.processes()[member]
        process.kill()
        psutil.wait_procs([process], timeout=10)

    def restart(self, member: str) -> None:
        """Start a killed server again and wait until its device answers."""
        self.deployment.start(next(s for s in SERVERS if s.member == member))
        wait_until(lambda: self.devices[member].ping() >= 0, 60, f"restart of {member}")

    @contextmanager
    def stopped(self, member: str) -> Iterator[None]:
        """A server that stands still as in a debugger, and goes on afterwards whatever happens."""
        process = self.deployment.processes()[member]
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def replay(self, recording: Path, **settings: Any) -> None:
        """Start a replay from the beginning."""
        self.detector.Stop()
        wait_until(lambda: self.detector.State() == tango.DevState.STANDBY, what="the detector's stop")
        for name, value in {"loop": True, "frame_period_s": 0.012, "recording": str(recording), **settings}.items():
            self.detector.write_attribute(name, value)
        self.detector.Start()

    def await_picture(
        self, member: str = "denoiser", slice_name: str = "xy", beyond: int = -1, timeout_s: float = 60
    ) -> int:
        """Wait for a picture newer than frame `beyond`; returns its frame number."""
        attribute = f"frame_number_{slice_name}"

        def newer() -> int:
            number = self.devices[member].read_attribute(attribute).value
            return number if number > beyond else 0

        return wait_until(newer, timeout_s, f"a picture of {slice_name} at {member} beyond frame {beyond}")

    def await_more_pictures(self, *members: str, updates: int = 2) -> None:
        """Wait until each of these members has shown so many new pictures from now on."""
        for member in members:
            number = self.devices[member].read_attribute("frame_number_xy").value
            for _ in range(updates):
                number = self.await_picture(member, beyond=number)


@pytest.fixture
def programs_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database's program is found by PATH, also where the environment is not activated."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two turns of the simulated scan."""
    path = tmp_path_factory.mktemp("recording") / "balls.nxs"
    record(load("balls").with_(seed=3), path, frames=300)
    return path


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """All four servers on a database of their own, ended afterwards; TANGO_HOST is put back."""
    before = os.environ.get("TANGO_HOST")
    deployment = Deployment(tmp_path_factory.mktemp("system"))
    try:
        yield System(deployment, deployment.up())
    finally:
        deployment.down()
        if before is None:
            os.environ.pop("TANGO_HOST", None)
        else:
            os.environ["TANGO_HOST"] = before
        logs = {p.name: p.read_text(errors="replace") for p in deployment.folder.glob("*.log")}
    broken = {name: text[-1500:] for name, text in logs.items() if "Traceback" in text or "terminate called" in text}
    assert not broken, f"a server wrote a traceback: {broken}"
