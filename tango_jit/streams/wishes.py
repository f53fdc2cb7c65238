"""What a receiver of slices would like to have, told by a subscription of its own.

A SUB socket that also subscribes to `{"htype":"wish","depth":5}` asks for stacks of 5 planes or more. No message begins
like that, so nothing else comes of it; and when its socket is gone, however it went, ZeroMQ takes the wish back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tango_jit.streams._payloads import DEPTH

_WISH = re.compile(rb'\{"htype":"wish","depth":([1-9][0-9]?)\}')


def depth_wish(depth: int) -> bytes:
    """The prefix to subscribe to for stacks of `depth` planes, an odd number; empty for 1, which all have."""
    return b'{"htype":"wish","depth":%d}' % depth if depth > 1 else b""


def depth_wished(prefixes: Iterable[bytes]) -> int:
    """The most planes that any of these subscriptions asks for; 1: none does. What is no odd number that a message
    can hold is no wish."""
    found = (int(match[1]) for prefix in prefixes if (match := _WISH.fullmatch(prefix)))
    return max((depth for depth in found if depth % 2 and depth <= DEPTH), default=1)
