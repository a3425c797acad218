"""Memory that a program frees and takes again in every step."""

import ctypes

__all__ = ["keep_freed_memory"]

# The numbers that malloc.h has for settings of glibc's allocator.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Has the process keep the memory that it frees, where the system's allocator is glibc's; returns whether it does.

    By itself that gives large arrays back at once, and each step of a training run on a CPU pays for the page faults of
    taking them anew: a third of the time of a small GPT. The command ``dlfn train`` calls this. Outside of Python
    ``MALLOC_MMAP_MAX_=0 MALLOC_TOP_PAD_=268435456 MALLOC_TRIM_THRESHOLD_=8589934592`` in the environment does the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = (_MMAP_MAX, 0), (_TOP_PAD, 2**28), (_TRIM_THRESHOLD, 2**31 - 1)
    return mallopt is not None and all(mallopt(*setting) for setting in settings)
