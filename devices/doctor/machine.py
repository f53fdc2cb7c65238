"""The computer and what is installed on it: Python, packages, cores, memory, folders."""

from __future__ import annotations

import os
import platform
import pwd
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from devices.doctor.findings import Finding, ok, problem, warning
from tango_jit.cores import usable_cores

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"  # in a checkout
FEW_MB, TOO_FEW_MB = 3000, 700  # of memory: six servers at rest have about 1.5 GB together, one by itself 300 MB
FEW_FREE_MB, TOO_FEW_FREE_MB = 5000, 500  # of a disk: the recorder stops at about the latter
KEPT = ("pytango", "torch", "numba", "h5py", "pyzmq", "numpy")  # named one by one


def installation() -> list[Finding]:
    """Python and packages, as the installed metadata want them and as they were tested."""
    try:
        wanted = distribution("tango-jit")
    except PackageNotFoundError:
        return [problem("packages", "tango-jit itself is not installed", "pip install it (docs/how-to/install.md)")]
    python = platform.python_version()
    allowed = wanted.metadata["Requires-Python"] or ""
    findings = [
        ok("Python", python)
        if Version(python) in SpecifierSet(allowed)
        else problem("Python", python, f"expected {allowed}: install tango-jit with another one")
    ]
    requirements = [Requirement(text) for text in wanted.requires or ()]
    needed = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [*findings, packages(needed, {one.name: installed(one.name) for one in needed}, known_versions(CONSTRAINTS))]


def installed(name: str) -> str | None:
    """The version of a package; None: it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def known_versions(file: Path) -> dict[str, str]:
    """The versions that were tested together, by name in small letters; empty where there is no such file."""
    text = file.read_text() if file.is_file() else ""
    return {name.lower(): number for name, number in re.findall(r"(?m)^([\w.-]+)==(\S+)", text)}


def packages(needed: list[Requirement], found: Mapping[str, str | None], known: Mapping[str, str]) -> Finding:
    """Are they there, new enough, and of the versions (first two numbers) that were tested?"""
    wrong, other = [], []
    for one in needed:
        number = found[one.name]
        if number is None:
            wrong.append(f"{one.name} is missing")
        elif not one.specifier.contains(number, prereleases=True):
            wrong.append(f"{one.name} {number}, expected {one.specifier}")
        elif (right := known.get(one.name.lower())) and Version(number).release[:2] != Version(right).release[:2]:
            other.append(f"{one.name} {number} (tested: {right})")
    if wrong:
        return problem("packages", "; ".join(wrong), "pip install -c constraints.txt tango-jit")
    if other:
        return warning("packages", "; ".join(other), "if something fails, take those that were tested: constraints.txt")
    named = ", ".join(f"{name} {found[name]}" for name in KEPT if found.get(name))
    return ok("packages", f"{named}, and {len(needed) - len(KEPT)} more" if len(needed) > len(KEPT) else named)


def cores() -> Finding:
    number = usable_cores()
    if number < 2:
        return warning("cores", "1", "the live path and the training share it: expected 2 or more")
    return ok("cores", str(number))


def memory(free_mb: int | None = None) -> Finding:
    """`free_mb` is what may still be taken; None: look."""
    free = psutil.virtual_memory().available >> 20 if free_mb is None else free_mb
    if free < TOO_FEW_MB:
        return problem("memory", f"{free} MB free", "end what else runs here; the system kills who asks for more")
    if free < FEW_MB:
        return warning("memory", f"{free} MB free", "enough at rest; a large detector wants more for its window")
    return ok("memory", f"{free / 1024:.1f} GB free")


def folder(check: str, path: Path, uid: int | None, *, made: bool = False) -> Finding:
    """Can a server that runs as `uid` (None: unknown) write there? Tried with a file that is gone at once.

    `made`: the server makes the folder when it needs it, so that the next one above that exists counts.
    """
    while made and not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        if path.exists():
            return problem(check, f"{path} is no folder", "name a folder")
        return problem(check, f"{path} does not exist on this computer", "make it, or name another")
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if uid is not None and uid != os.geteuid():
            return warning(
                check,
                f"{path}: {error.strerror} for you, and the server runs as another user",
                "look as that user (sudo -u)",
            )
        return problem(check, f"{path}: {error.strerror}", "allow the user of the server to write, or name another")
    if uid not in (None, os.geteuid()) and not _writable_by(path, uid):
        return problem(
            check, f"{path} cannot be written by the user {_name(uid)} of the server", f"chown {_name(uid)} {path}"
        )
    free = shutil.disk_usage(path).free >> 20
    if free < TOO_FEW_FREE_MB:
        return problem(check, f"{path}: {free} MB free", "make room, or name a folder on another disk")
    if free < FEW_FREE_MB:
        return warning(check, f"{path}: {free} MB free", "make room before a long run")
    return ok(check, f"{path}, {free / 1024:.0f} GB free")


def _writable_by(path: Path, uid: int | None) -> bool:
    """As owner or by everybody; a group, or an access list, is not looked into and taken for allowed."""
    one = path.stat()
    if uid == 0 or one.st_mode & 0o022:
        return True
    return one.st_uid == uid and bool(one.st_mode & 0o200)


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)
