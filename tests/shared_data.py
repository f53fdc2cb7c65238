"""Real recorded scans: they lie beside the checkout and are no part of the project."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """Where the scans should be: TANGO_JIT_SHARED_DATA, or `shared/data` beside the checkout."""
    named = os.environ.get("TANGO_JIT_SHARED_DATA")
    return Path(named) if named else CHECKOUT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans. Skips the test where it is absent; a folder named by the environment must exist."""
    folder = data_folder()
    if not folder.is_dir():
        if "TANGO_JIT_SHARED_DATA" in os.environ:
            pytest.fail(f"TANGO_JIT_SHARED_DATA: expected a folder with the real scans, got {str(folder)!r}")
        pytest.skip(f"no real scans: {folder} is absent and TANGO_JIT_SHARED_DATA is not set")
    return folder
