"""Closer looks than `tango-jit bench` takes, one by `python -m benchmarks.NAME`; its results are in `results`."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the servers do, see devices/__init__.py
