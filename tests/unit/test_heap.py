"""Memory that is kept: a pass of the network in a thread, as in the denoiser's server, without page faults."""

import subprocess
import sys

import pytest

PASSES = """
import resource, sys, threading
from tango_jit.heap import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
import torch
from tango_jit.learn import NetworkConfig
from tango_jit.learn.inference import Predictor
from tango_jit.learn.unet import build
torch.set_num_threads(2)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    predict, image = Predictor(build(NetworkConfig()), "auto", torch.device("cpu")), torch.rand(1, 1, 1024, 1024)
    for _ in range(15):
        predict(image)
    before = faults()
    for _ in range(5):
        predict(image)
    print(faults() - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_pass_takes_no_new_memory_from_the_system():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", PASSES, how], check=True, capture_output=True, text=True).stdout)
        for how in ("kept", "given back")
    )
    assert kept < given_back / 5 > 2000
