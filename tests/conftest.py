"""What every test shares: thread caps, markers by folder, and the real data."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

# Before torch and numba load: the test processes share few cores. Children inherit the caps.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_variable, "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the servers do, see devices/__init__.py

import pytest  # noqa: E402

from tests.shared_data import shared_data  # noqa: E402

__all__ = ["shared_data"]  # a fixture; pytest finds it here

TESTS = Path(__file__).parent


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: the same bits on any machine, and test processes that do not fight for cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_configure(config: pytest.Config) -> None:
    """The same drawn examples every time: whether a change passes is no matter of luck. `--hypothesis-profile default`
    draws others."""
    if importlib.util.find_spec("hypothesis") and not config.getoption("--hypothesis-profile", None):
        from hypothesis import settings

        settings.register_profile("repeatable", derandomize=True)
        settings.load_profile("repeatable")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if folder in ("gpu", "system"):
            item.add_marker(folder)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_gpu():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
