"""The servers of one installation as processes: started, found again, ended."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import platformdirs
import psutil
import tango

from devices.registration import SERVERS, Server, free_port, register

START_S = 180.0  # the first start compiles
STOP_S = 10.0
SUMMARY_S = 5.0  # after that a fault is one
DEFAULT_FOLDER = platformdirs.user_state_path("tango-jit")


class Deployment:
    """Database and servers as processes of their own, remembered in a folder so that they can be ended later.

    Folder: `tango.db` (the embedded database), `tango_host` (its address, the same each time if it is free: clients
    find it again), `run.json` (who runs), one log file per process, `weights`.
    """

    def __init__(self, folder: Path, *, prefix: str | None = None, instance: str | None = None) -> None:
        """`prefix` and `instance` name devices and servers; None: those that run from this folder, else jit and 1."""
        self.folder = folder = folder.resolve()  # the processes run in it
        self._record = folder / "run.json"
        recorded = self.recorded()
        self.prefix = prefix or recorded.get("prefix", "jit")
        self.instance = instance or recorded.get("instance", "1")

    @property
    def devices(self) -> dict[str, str]:
        """Member name -> device name."""
        return {s.member: s.device(self.prefix, self.instance) for s in SERVERS}

    def recorded(self) -> dict[str, Any]:
        """What `up` wrote: tango_host and processes; empty when nothing was started."""
        try:
            return json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def processes(self) -> dict[str, psutil.Process]:
        """The processes of the record that still live (a pid that now belongs to another program is not ours)."""
        alive = {}
        for name, (pid, created) in self.recorded().get("processes", {}).items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                    alive[name] = process
        return alive

    def up(self) -> str:
        """Start what is not running and wait until every device answers. Returns TANGO_HOST.

        Raises RuntimeError with the end of the log of a process that does not come up, and ValueError where devices of
        another name run from this folder, or belong to these servers; nothing new is left running then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would start two databases on one file
            before = set(self.processes())
            self._refuse_two(before)
            try:
                host = self._database()
                os.environ["TANGO_HOST"] = host
                database = tango.Database(*_host_port(host))
                self._refuse_others(database)
                register(database, prefix=self.prefix, instance=self.instance, folder=self.folder)
                for server in SERVERS:
                    self.start(server)
                for server in SERVERS:
                    self._await_device(server)
                if set(self.processes()) - before:
                    self._await_summary()
            except BaseException:
                self.down(set(self.processes()) - before)
                raise
        return host

    def _refuse_two(self, running: Collection[str]) -> None:
        recorded = self.recorded()
        names = recorded.get("prefix", self.prefix), recorded.get("instance", self.instance)
        if running and names != (self.prefix, self.instance):
            raise ValueError(
                f"prefix and instance: expected {names[0]} and {names[1]}, which run from {self.folder}, got "
                f"{self.prefix} and {self.instance}: `tango-jit down` ends them, or take another folder"
            )

    def _refuse_others(self, database: tango.Database) -> None:
        """One server process would serve the devices of both prefixes, on cores that are for one."""
        for server in SERVERS:
            known = list(database.get_device_name(f"{server.script}/{self.instance}", server.device_class))
            if [name.lower() for name in known] not in ([], [self.devices[server.member].lower()]):
                raise ValueError(
                    f"prefix {self.prefix}: expected that of the devices in {self.folder}, which holds "
                    f"{', '.join(known)}: take that prefix, another instance or another folder"
                )

    def start(self, server: Server) -> None:
        """Start one server process if it does not run."""
        if server.member not in self.processes():
            module = servers()[server.device_class]
            self._spawn(server.member, [sys.executable, "-m", module, self.instance])

    def down(self, only: Collection[str] | None = None) -> list[str]:
        """End servers, then the database: SIGTERM, and SIGKILL for what does not leave. Returns who was ended.

        `only` these processes; None: all of them.
        """
        alive = {n: p for n, p in self.processes().items() if only is None or n in only}
        for names in ([n for n in alive if n != "database"], [n for n in alive if n == "database"]):
            for name in names:
                with suppress(psutil.NoSuchProcess):
                    alive[name].send_signal(signal.SIGTERM)
                    alive[name].send_signal(signal.SIGCONT)  # a stopped process cannot end
            _, left = psutil.wait_procs([alive[n] for n in names], timeout=STOP_S)
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=STOP_S)
        if not self.processes():
            self._record.unlink(missing_ok=True)
        return list(alive)

    def _write(self, record: dict[str, Any]) -> None:
        part = self._record.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(self._record)

    def _database(self) -> str:
        recorded = self.recorded()
        if "database" in self.processes():
            return recorded["tango_host"]
        if self.processes():  # servers of a database that died cannot be reached again
            self.down()
        host = f"127.0.0.1:{free_port(wanted=self._port_before())}"
        (self.folder / "tango_host").write_text(host)
        self._write({"tango_host": host, "prefix": self.prefix, "instance": self.instance, "processes": {}})
        environment = {"PYTANGO_DATABASE_NAME": str(self.folder / "tango.db"), "TANGO_HOST": host}
        program = "import sys; from databaseds.database import main; sys.exit(main())"
        self._spawn("database", [sys.executable, "-c", program, "2"], environment)
        deadline = time.monotonic() + START_S
        while True:
            try:
                tango.Database(*_host_port(host)).get_info()
                return host
            except tango.DevFailed:
                self._still_there("database", deadline)

    def _port_before(self) -> int | None:
        with suppress(FileNotFoundError, ValueError):
            return _host_port((self.folder / "tango_host").read_text())[1]
        return None

    def _await_device(self, server: Server) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                proxy = tango.DeviceProxy(
                    f"tango://{self.recorded()['tango_host']}/{server.device(self.prefix, self.instance)}"
                )
                if proxy.command_inout("State") != tango.DevState.INIT:
                    return
                self._still_there(server.member, deadline)
            except tango.DevFailed:
                self._still_there(server.member, deadline)

    def _await_summary(self) -> None:
        """The supervisor may have looked at who began after it: what it says is to be of now."""
        proxy = tango.DeviceProxy(f"tango://{self.recorded()['tango_host']}/{self.devices['supervisor']}")
        deadline = time.monotonic() + SUMMARY_S
        while time.monotonic() < deadline:
            with suppress(tango.DevFailed):
                if proxy.command_inout("State") != tango.DevState.FAULT:
                    return
            time.sleep(0.1)

    def _still_there(self, name: str, deadline: float) -> None:
        """One wait between two tries; raises when the process is gone or the time is over."""
        if name not in self.processes() or time.monotonic() > deadline:
            text = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(
                f"{name} did not start within {START_S:.0f} s; its log {self.folder / name}.log ends:\n{text}"
            )
        time.sleep(0.1)

    def _spawn(self, name: str, command: list[str], extra: Mapping[str, str] | None = None) -> None:
        environment = {
            **os.environ,
            "ORBendPoint": "giop:tcp:127.0.0.1:0",
            **(extra or {"TANGO_HOST": self.recorded()["tango_host"]}),
        }
        if name == "database":
            del environment["ORBendPoint"]  # its address is its TANGO_HOST
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                cwd=self.folder,
            )
        process.returncode = 0  # the record knows this process, it outlives this object: no ResourceWarning for it
        record = self.recorded()
        record["processes"][name] = (process.pid, psutil.Process(process.pid).create_time())
        self._write(record)


def installation(folder: Path | None, prefix: str | None, instance: str | None) -> tuple[str | None, dict[str, str]]:
    """HOST:PORT of the database (None: there is none) and member -> device, for commands that look at what runs.

    TANGO_HOST names the database, unless a folder is given; else it is the one that `tango-jit up` runs.
    """
    deployment = Deployment(folder or DEFAULT_FOLDER, prefix=prefix, instance=instance)
    named = None if folder is not None else tango.ApiUtil.get_env_var("TANGO_HOST")
    if named:  # what runs from the folder is of another database
        return named, {s.member: s.device(prefix or "jit", instance or "1") for s in SERVERS}
    return deployment.recorded().get("tango_host"), deployment.devices


def servers() -> dict[str, str]:
    """Device class -> module of its server, as installed (also by other packages)."""
    return {e.name: e.value.partition(":")[0] for e in entry_points(group="tango_jit.servers")}


def _host_port(tango_host: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.+):(\d+)", tango_host)
    if not found:
        raise ValueError(f"TANGO_HOST: expected HOST:PORT, got {tango_host!r}")
    return found[1], int(found[2])
