"""Freed memory stays with the process, up to 512 MB: maps of a network come without page faults, heaps do not fray.

glibc takes blocks of many megabytes from the system, which clears each page, and gives them back when they are freed:
for slices of 1024 x 1024 pixels that is a third of the time of a pass (docs/decisions/0032). And each thread has a
heap of its own, in which frames of a megabyte leave holes that no other thread can use.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # <malloc.h>
OWN_BYTES = 128 << 20  # larger blocks come from the system as before; the largest map of a tile has 86 MB
KEPT_BYTES = 512 << 20  # what is free at the end of the heap beyond this goes back


def keep_freed() -> bool:
    """Keep freed memory for the next use; to be called at the start of a process, before its other threads.

    All threads then share one heap: those made for single threads return blocks of this size at once, whatever is set.
    Returns whether the C library knows how to; where it does not, everything is as before, and passes take longer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # First what older ones refuse: with the rest alone every large block would be taken anew.
    if mallopt is None or not mallopt(M_MMAP_THRESHOLD, OWN_BYTES):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(M_ARENA_MAX, 1))
