"""The devices in Bluesky, through ophyd-async: pictures that are counted, places that are scanned, and plans.

Every attribute and command is there without this package (`ophyd_async.tango.core.TangoDevice`); what is added is that
a count waits for pictures of after its trigger, and takes all of them from one moment.
"""

from devices.bluesky.live_slices import LiveSlices, SlicePosition
from devices.bluesky.plans import look_through, wait_for_accuracy

__all__ = ["LiveSlices", "SlicePosition", "look_through", "wait_for_accuracy"]
