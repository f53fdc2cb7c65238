"""Live tomography with just-in-time denoising: the science and the services.

Imports no control system; usable from a notebook. Importing this package loads nothing heavy.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tango-jit")
except PackageNotFoundError:  # used from a checkout that is not installed
    __version__ = "unknown"
