"""Python runs this at the start of every process of a shift: what its heap keeps free is written down.

Servers keep freed memory on purpose (docs/decisions/0032), so that their resident memory grows whenever a queue finds
no hole in it. What must not grow is the rest, that in use. How much is free only the C library knows: `mallinfo2` of
glibc. Into the folder TANGO_JIT_HEAPS, a file for each process: free bytes, now.
"""

import ctypes
import os
import threading
import time
from pathlib import Path

EVERY_S = 5.0
FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]  # <malloc.h>


def watch(folder: Path) -> None:
    look = ctypes.CDLL(None).mallinfo2
    look.restype = Heap
    mine, next_one = folder / str(os.getpid()), folder / f"{os.getpid()}.next"
    while True:
        next_one.write_text(str(look().fordblks))
        next_one.replace(mine)
        time.sleep(EVERY_S)


if "TANGO_JIT_HEAPS" in os.environ and hasattr(ctypes.CDLL(None), "mallinfo2"):
    threading.Thread(target=watch, args=(Path(os.environ["TANGO_JIT_HEAPS"]),), name="heap", daemon=True).start()
