"""How this process asks the system for memory."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: giving every activation back to the system costs a CPU a tenth of its time.

    It holds for the whole process, so it is for those that own one: the command line, trainings and benchmarks.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # names in glibc's malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(top_pad, 2**27)
    except (OSError, AttributeError):
        pass  # another C library; only speed is lost
