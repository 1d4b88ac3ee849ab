"""What the C library does with memory that was freed."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed() -> None:
    """Keep it: arrays of a step come back to pages that are there already. By itself glibc returns large blocks and
    takes them again page fault by page fault, which costs more than the arithmetic on them. Where there is no glibc
    nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
