"""Where the memory of pictures goes when they are dropped: back to the system, and at once."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
"""glibc, malloc.h."""
RETURNED = 512 * 1024
"""Bytes: less than a picture of 640x480 in colour has, more than anything that comes hundreds of times a second."""


def return_memory() -> None:
    """Tell glibc's allocator to give blocks of `RETURNED` bytes and more back when they are freed.

    Left to itself it raises that bound to the largest block that was ever freed, up to 32 MiB, and keeps everything
    below it in heaps, one to each thread that allocates (mallopt(3), M_MMAP_THRESHOLD). Pictures are made in one thread
    and dropped in others, and lie between small things that stay: the demo grew by 200 MiB in ten minutes. Other C
    libraries have no such switch, and other habits.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, RETURNED)
