"""Video files, frame by frame: never more of one in memory than the frames asked for."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from cv2.utils import logging

from evenseg.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
USUAL_RATE = 25.0  # frames per second, where a file does not tell


class VideoReader:
    """The frames of a video in temporal order.

    Attributes:
        announced: number of frames according to the header, which may be an estimate; 0: not known.
        rate: frames per second.

    Raises:
        InputError: the file cannot be opened as a video, or has no frame that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        level = logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # a file that cannot be opened is told of once, by us
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        logging.setLogLevel(level)
        self._first = self._decode() if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            raise InputError(
                f"{path}: cannot be read as a video (damaged, cut off, or of an unknown codec); replace it or "
                "convert it, for instance to H.264 in mp4"
            )
        rate, announced = (self._capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = rate if math.isfinite(rate) and rate > 0 else USUAL_RATE
        self.announced = int(announced) if math.isfinite(announced) and announced > 0 else 0

    def read(self) -> np.ndarray | None:
        """The next frame, (H, W, 3) uint8 RGB, turned as the file says; None after the last one."""
        frame, self._first = self._first, None
        return self._decode() if frame is None else frame

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def _decode(self) -> np.ndarray | None:
        decoded, bgr = self._capture.read()
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) if decoded else None


class VideoWriter:
    """An mp4 file of frames of one size, MPEG-4 Part 2, which every build of OpenCV can write.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, rate: float, height: int, width: int) -> None:
        self._writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height)
        )
        if not self._writer.isOpened():
            raise InputError(f"{path.parent}: no mp4 video can be written there; add --no-overlay to do without")

    def write(self, frame: np.ndarray) -> None:
        """Append an (H, W, 3) uint8 RGB frame."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()
