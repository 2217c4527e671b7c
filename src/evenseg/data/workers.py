"""What a loading worker is: a process of one thread that only the trainer may end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading

import cv2
import torch

from evenseg.data.allocator import keep_freed_memory

# Workers are forked: they start in milliseconds, inherit the data set unpickled and need no guard
# in the user's script. The usual danger, locks and thread pools of the parent that do not survive a
# fork, is kept out: a worker runs torch and OpenCV in its own single thread and never wakes a pool.
START_METHOD = "fork" if sys.platform == "linux" else None


def start_worker(worker: int) -> None:
    """Set up a worker process: one thread, deaf to signals that are meant for the trainer.

    Ctrl-C and a scheduler's SIGTERM reach every process of a group. The trainer answers them by
    finishing its step and saving, for which it still needs its workers.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        threading.Thread(target=_obey_parent, daemon=True).start()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _obey_parent() -> None:
    """Leave when the parent says SIGTERM (the end of a loader does, if a worker is late); ignore others."""
    parent = multiprocessing.parent_process()
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if parent is not None and received.si_pid == parent.pid:
            os._exit(0)
