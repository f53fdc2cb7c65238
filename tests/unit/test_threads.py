"""The threading layer of numba: safe when several threads run parallel functions at once."""

import platform
import subprocess
import sys

import pytest

CONCURRENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
sys.modules.update(dict.fromkeys({missing!r}))  # None: the import fails, as where the library is absent

from tango_jit.threads import use_safe_layer
print(use_safe_layer())

import numba

@numba.njit(parallel=True)
def total(n):
    result = 0
    for i in numba.prange(n):
        result += i
    return result

with ThreadPoolExecutor(4) as pool:
    assert set(pool.map(total, [1000] * 200)) == {{499500}}
print(numba.threading_layer())
"""

OMP, TBB = "numba.np.ufunc.omppool", "numba.np.ufunc.tbbpool"
on_x86_linux = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the tbb package is for Linux on x86-64"
)


def run(*missing: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CONCURRENT.format(missing=missing)], capture_output=True, text=True, timeout=100
    )


def test_concurrent_calls_survive() -> None:
    result = run()
    assert result.returncode == 0, result.stderr
    named, used = result.stdout.split()
    assert named == used
    assert named in ("omp", "tbb")


@on_x86_linux
def test_without_libgomp_tbb_is_taken() -> None:
    result = run(OMP)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["tbb", "tbb"]


def test_without_any_safe_layer_the_error_says_what_to_install() -> None:
    result = run(OMP, TBB)
    assert result.returncode == 1
    assert "RuntimeError: numba: expected a thread-safe layer (omp or tbb), got none" in result.stderr
    assert "libgomp1" in result.stderr
