"""How the C library manages the memory of a process that allocates large arrays again and again."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next arrays, instead of returning it to the system.

    By default glibc returns large blocks at once, and the system hands them out again page by page,
    zeroed: several per cent of a training step on a CPU, up to a third of the colour views. The
    memory stays at its peak, which a training loop reaches every step anyway. Does nothing where
    the C library is another one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
