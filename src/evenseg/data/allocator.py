"""How the C library manages the memory of a process that allocates large arrays again and again."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # from glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next arrays, instead of returning it to the system.

    By default glibc returns large blocks at once, and the system hands them out again page by page,
    zeroed: several per cent of a training step on a CPU, up to a third of the colour views. The
    memory stays at its peak, which a training loop reaches every step anyway. Does nothing where
    the C library is another one.
    """
    _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def return_freed_memory() -> None:
    """Let this process return every freed array to the system at once.

    By default glibc comes to keep those of some megabytes, and what is kept is torn into pieces: a pass over
    thousands of images takes up more and more. Does nothing where the C library is another one.
    """
    _set({_M_MMAP_MAX: 65536, _M_MMAP_THRESHOLD: 2**18, _M_TRIM_THRESHOLD: 2**18})


def _set(options: dict[int, int]) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)
