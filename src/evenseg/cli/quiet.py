"""Keeps standard error to what evenseg has to say."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def silence_libraries() -> None:
    """No warnings, log lines or progress bars of libraries, unless Python was asked for them (``-W``).

    Called before the libraries are imported; worker processes inherit it through the environment.
    """
    if sys.warnoptions and os.environ.get("PYTHONWARNINGS") != "ignore":  # our own mark is no request
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # not a word: a damaged video is reported by us
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
