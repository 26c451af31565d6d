"""Memory that huge images took goes back to the system."""

import ctypes
import ctypes.util

_M_MMAP_THRESHOLD = -3  # malloc.h of the GNU C library
# Pixels of 3 megapixels and more. Smaller blocks, such as a 640 px input, are kept for the next image: no page faults.
_RETURNED_BYTES = 8 << 20


def return_huge_blocks() -> None:
    """Let blocks of 8 MiB and more go back to the system as soon as they are free; nothing where malloc has no such.

    The GNU C library raises its own limit to 32 MiB once such a block was freed, and each thread's arena keeps what
    lies below: after 24 images of 49 megapixels on two cores a server stayed at 945 MiB for good; with this at 222 MiB
    (with limits of 16, 4 and 1 MiB at 941, 198 and 200 MiB).
    """
    name = ctypes.util.find_library("c")
    set_option = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _RETURNED_BYTES)
