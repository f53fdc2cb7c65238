"""The CUDA sources compile for the devices that are promised: by nvcc, and by NVRTC as CuPy uses it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tango_jit.recon.backproject.cuda_device import OPTIONS, SOURCES

NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
# Turing (RTX 2080 Ti), Ampere (A100), Hopper (H100, H200).
ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
REGISTERS = 80  # of a thread: three blocks of 256 fit in the 65,536 of a multiprocessor

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc on this machine: CUDA sources cannot be compiled")


def nvcc(source: Path, *arguments: str) -> str:
    """What nvcc and ptxas say; asserts that they are content, warnings included."""
    assert NVCC is not None
    command = [NVCC, *OPTIONS, "-Werror", "all-warnings", "-Xptxas", "-v", *arguments, str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_the_sources_are_there() -> None:
    assert set(SOURCES) == {"backproject", "texels"}


@needs_nvcc
@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_keep_all_they_need_in_registers(source: str, architecture: str, tmp_path: Path) -> None:
    report = nvcc(SOURCES[source], f"-arch={architecture}", "-cubin", "-o", str(tmp_path / "out.cubin"))
    spills = [int(bytes_) for bytes_ in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", report)]
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", report)]
    assert len(registers) == (2 if source == "backproject" else 4)
    assert len(spills) == 3 * len(registers)
    assert max(spills) == 0
    assert max(registers) <= REGISTERS


@needs_nvcc
@pytest.mark.parametrize("source", sorted(SOURCES))
def test_ptx_for_devices_to_come(source: str, tmp_path: Path) -> None:
    """Written for the oldest; names as CuPy looks them up."""
    ptx = tmp_path / "out.ptx"
    nvcc(SOURCES[source], "-arch=compute_75", "-ptx", "-o", str(ptx))
    kernels = re.findall(r"\.entry (\w+)", ptx.read_text())
    expected = {
        "backproject": {"backproject_exact", "backproject_half"},
        "texels": {"read_16", "read_32", "write_16", "write_32"},
    }
    assert set(kernels) == expected[source]


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    cupy: Any = pytest.importorskip("cupy", reason="no CuPy on this machine: NVRTC is not tried")
    nvrtc = cupy.cuda.nvrtc
    try:
        nvrtc.getVersion()
    except RuntimeError as error:
        pytest.skip(f"CuPy finds no NVRTC on this machine: {error}")
    return nvrtc


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_needs_no_headers(nvrtc: Any, source: str, architecture: str) -> None:
    program = nvrtc.createProgram(SOURCES[source].read_text(), f"{source}.cu", [], [])
    try:
        nvrtc.compileProgram(program, [*OPTIONS, f"-arch={architecture}"])
    except nvrtc.NVRTCError as error:
        raise AssertionError(nvrtc.getProgramLog(program)) from error
    assert len(nvrtc.getCUBIN(program)) > 1000
