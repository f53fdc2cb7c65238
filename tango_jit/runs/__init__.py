"""Files of a run: pictures of slices with what made them, in NeXus/HDF5; read while they grow, and made again."""

from tango_jit.runs.ballast import Ballast
from tango_jit.runs.columns import PictureError
from tango_jit.runs.reader import Picture, Run
from tango_jit.runs.writer import RunWriter

__all__ = ["Ballast", "Picture", "PictureError", "Run", "RunWriter"]
