"""A numba threading layer that survives concurrent calls.

numba's own fallback, `workqueue`, aborts the process when two threads run parallel functions at once. The safe
layers need a library: `omp` the system's libgomp, `tbb` the libtbb of the PyPI package of that name, which numba does
not find by itself inside a virtual environment.
"""

import ctypes
import importlib
from importlib.metadata import PackageNotFoundError, files

from numba.core import config


def use_safe_layer() -> str:
    """Make numba use its omp or else its tbb layer, and return the name of the one taken.

    To be called before the first parallel function runs; later calls change nothing. Raises RuntimeError, with what
    to install, where neither can be loaded.
    """
    troubles = []
    for name, load in (("omp", _load_omp), ("tbb", _load_tbb)):
        try:
            load()
        except (ImportError, OSError, PackageNotFoundError) as error:
            troubles.append(f"{name}: {error}")
        else:
            # Named, so that numba refuses instead of falling back.
            config.THREADING_LAYER = name  # pyright: ignore[reportAttributeAccessIssue]
            return name
    raise RuntimeError(
        "numba: expected a thread-safe layer (omp or tbb), got none; install the system package libgomp1, or "
        f"`pip install tbb` ({'; '.join(troubles)})"
    )


def _load_omp() -> None:
    importlib.import_module("numba.np.ufunc.omppool")


def _load_tbb() -> None:
    for file in files("tbb") or ():
        if file.name == "libtbb.so.12":
            ctypes.CDLL(str(file.locate()))  # once loaded, numba finds it by its name
    importlib.import_module("numba.np.ufunc.tbbpool")
