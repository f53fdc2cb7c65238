"""Messages on the wire, publishers and subscribers, and the accounting of frames.

Those that open sockets load ZeroMQ when they are first asked for: the science works with messages alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tango_jit.streams.frames import FrameCount
from tango_jit.streams.mailbox import Mailbox
from tango_jit.streams.messages import (
    Dark,
    Denoised,
    Flat,
    Header,
    Image,
    Message,
    MessageError,
    SeriesEnd,
    Slice,
    View,
    Volume,
    Weights,
    decode,
)
from tango_jit.streams.source import FrameSource

if TYPE_CHECKING:
    from tango_jit.streams.publisher import Publisher
    from tango_jit.streams.pusher import Pusher
    from tango_jit.streams.subscriber import Subscriber

__all__ = [
    "Dark",
    "Denoised",
    "Flat",
    "FrameCount",
    "FrameSource",
    "Header",
    "Image",
    "Mailbox",
    "Message",
    "MessageError",
    "Publisher",
    "Pusher",
    "SeriesEnd",
    "Slice",
    "Subscriber",
    "View",
    "Volume",
    "Weights",
    "decode",
]


def __getattr__(name: str) -> Any:
    if name in ("Publisher", "Pusher", "Subscriber"):
        return getattr(import_module(f"{__name__}.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
