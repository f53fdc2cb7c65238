"""From raw frames to filtered views: flat field, logarithm, FDK weight, ramp filter, and corrections on the way.

One room for each step; `preprocessor.py` joins them. A step that pays to be written for the processor by itself has a
twin for tensors on any device, which gives the same numbers.
"""

from tango_jit.recon.preprocess.corrections import Corrections, Region
from tango_jit.recon.preprocess.gain import fdk_gain
from tango_jit.recon.preprocess.plan import NO_BEAM
from tango_jit.recon.preprocess.preprocessor import Preprocessor, warm_up
from tango_jit.recon.preprocess.ramp import FILTERS, ramp_response

__all__ = ["FILTERS", "NO_BEAM", "Corrections", "Preprocessor", "Region", "fdk_gain", "ramp_response", "warm_up"]
