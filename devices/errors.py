"""What a device or Tango says of a failure, for people."""

from __future__ import annotations

import tango


def said(error: tango.DevFailed) -> str:
    """The first line of the first error: what the device itself said."""
    return error.args[0].desc.strip().splitlines()[0].strip()
