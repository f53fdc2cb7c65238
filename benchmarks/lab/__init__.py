"""Experiments with a known answer, on which ways of learning are compared: offline, and the same at every run.

`load` gives one of `NAMES`, `Windows` its slices as time goes on, `Experiment.score` tells how good a picture of one
is, and `oracle` what total variation reaches when it is told the answer.
"""

from benchmarks.lab.catalogue import NAMES, load
from benchmarks.lab.experiment import Experiment, Target
from benchmarks.lab.tv import Oracle, oracle
from benchmarks.lab.windows import Windows

__all__ = ["NAMES", "Experiment", "Oracle", "Target", "Windows", "load", "oracle"]
