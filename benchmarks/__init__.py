"""What is measured, and how: `make bench`, or one file by `python -m benchmarks.NAME`."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the servers do, see devices/__init__.py
