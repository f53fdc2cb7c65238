"""Doors: the services as Tango devices. Translation only, no numerics."""

import os

# Before any library with an OpenMP runtime loads: several servers share the cores, and threads that spin while they
# wait for work take them from the others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
