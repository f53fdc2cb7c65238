"""Peers of `tango-jit bench` in processes of their own: what they say, and what is said of those that cannot run.

A module of its own: the processes load it, and it should not take long.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec

import pytest

from sim.bench.peers_gpu import FDK, astra_fdk, kernelkit
from sim.bench.suites.peers import AbsentError, peer


def squares():
    """A peer: it works."""
    return {"square": lambda: sum(k * k for k in range(1000))}


def broken():
    raise OSError("no such library")


def fatal():
    os._exit(3)


def test_a_peer_works_in_a_process_of_its_own():
    with peer("json", squares) as clock:
        assert clock("square") > 0
        with pytest.raises(AbsentError, match="KeyError"):
            clock("cube")


@pytest.mark.parametrize(
    ("module", "prepare", "why"),
    [
        ("no_such_module", squares, "no_such_module is not installed"),
        ("json", broken, "OSError: no such library"),
        ("json", fatal, "exit status 3"),
    ],
)
def test_a_peer_that_cannot_run_says_why(module, prepare, why):
    with pytest.raises(AbsentError, match=why), peer(module, prepare):
        pytest.fail("it was ready")


def test_astra_without_a_device_says_so():
    """It would log an error, return at once and be the fastest of all."""
    if find_spec("astra") is None:
        pytest.skip("ASTRA is not installed")
    if import_module("astra").use_cuda():
        with peer("astra", astra_fdk) as clock:
            assert clock(FDK) > 0
        return
    with (
        pytest.raises(AbsentError, match="astra: RuntimeError: FDK_CUDA: expected a CUDA device, ASTRA finds none"),
        peer("astra", astra_fdk),
    ):
        pytest.fail("it was ready")


def test_kernelkit_that_is_not_installed_says_so():
    if find_spec("kernelkit") is not None:
        pytest.skip("KernelKit is installed")
    with pytest.raises(AbsentError, match="kernelkit is not installed"), peer("kernelkit", kernelkit):
        pytest.fail("it was ready")
