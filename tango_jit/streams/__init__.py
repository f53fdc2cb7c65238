"""Messages on the wire, publishers and subscribers, and the accounting of frames."""

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
    Weights,
    decode,
)
from tango_jit.streams.publisher import Publisher
from tango_jit.streams.pusher import Pusher
from tango_jit.streams.source import FrameSource
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
    "Weights",
    "decode",
]
