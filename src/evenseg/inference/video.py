"""Predict a video: a folder of label maps, one for each frame, and an overlay video."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evenseg.data.classes import Classes
from evenseg.data.video_io import VideoReader, VideoWriter
from evenseg.errors import InputError
from evenseg.inference.ahead import map_ahead
from evenseg.inference.images import Failure, Files, write_prediction
from evenseg.inference.inputs import Source
from evenseg.inference.job import Job
from evenseg.inference.outputs import explained
from evenseg.inference.outputs import overlay as overlaid
from evenseg.inference.pictures import Picture, Prediction, make_picture
from evenseg.inference.predict import evaluating

LOST_FRAMES = 0.02  # share of the announced frames that may be missing: headers estimate


class Outputs(NamedTuple):
    """Where the outputs of one video go; None: not wanted."""

    labels: Path  # folder
    overlay: Path | None
    prob: Path | None  # folder


def predict_video(
    job: Job, source: Source, *, progress: Callable[[int, int], None] | None = None
) -> tuple[int, Failure | None]:
    """Write the label map of every frame, and an overlay video and probabilities where wanted.

    ``OUTPUT/labels/NAME/000000.png`` and on, ``OUTPUT/overlays/NAME.mp4``,
    ``OUTPUT/probabilities/NAME/000000.npz`` and on. Frames are decoded as they are needed; only those
    of a few calls of the network are in memory. Outputs of the name that exist are replaced, see
    ``refuse_existing_videos``.

    Args:
        job: the network, and what is wanted of it.
        source: the video and the name of its outputs.
        progress: called with (frames done, frames announced; 0: not known).

    Returns:
        Number of frames predicted; and what was wrong with the video, if anything was.

    Raises:
        InputError: a file cannot be written.
    """
    try:
        reader = VideoReader(source.path)
    except InputError as error:
        return 0, Failure(source.path, str(error))
    outputs = outputs_of(job.output, source.name, overlay=job.overlay, prob=job.prob)

    def pictures() -> Iterator[Picture]:
        for index, frame in enumerate(_frames(reader, depth=2 * job.protocol.batch)):
            yield make_picture(f"{index:06d}", frame, job.resize)

    def write(prediction: Prediction) -> Prediction:
        name = prediction.picture.name
        prob_file = None if outputs.prob is None else outputs.prob / f"{name}.npz"
        write_prediction(Files(outputs.labels / f"{name}.png", None, prob_file), prediction, job.classes)
        return prediction

    done = 0
    with explained(job.output), evaluating(job.model), _Overlay(outputs.overlay, reader.rate) as film:
        _clear(outputs)
        predictions = job.predictions(pictures())
        for prediction in map_ahead(
            write, predictions, threads=job.threads, depth=2 * job.threads
        ):  # in temporal order
            film.write(prediction, job.classes)
            done += 1
            if progress is not None:
                progress(done, reader.announced)
    if done < (1 - LOST_FRAMES) * reader.announced - 1:
        message = f"only {done} of {reader.announced} frames can be decoded; they are predicted, replace the file"
        return done, Failure(source.path, f"{source.path}: {message}")
    return done, None


def outputs_of(output: Path, name: str, *, overlay: bool, prob: bool) -> Outputs:
    """The outputs of the video of a name."""
    return Outputs(
        output / "labels" / name,
        output / "overlays" / f"{name}.mp4" if overlay else None,
        output / "probabilities" / name if prob else None,
    )


def refuse_existing_videos(outputs: Sequence[Outputs]) -> None:
    """Raise ``InputError`` that names the first output that exists already."""
    for path in (path for one in outputs for path in one if path is not None):
        if path.exists():
            raise InputError(f"{path}: exists already; add --overwrite, or choose another --output")


def _frames(reader: VideoReader, depth: int) -> Iterator[np.ndarray]:
    """The frames, decoded ahead by one thread: a video has one reading position."""
    ahead = map_ahead(lambda _: reader.read(), itertools.count(), threads=1, depth=depth)
    with closing(reader), closing(ahead):  # the thread ends before its file is closed
        for frame in ahead:
            if frame is None:
                return
            yield frame


def _clear(outputs: Outputs) -> None:
    """Remove frames of an earlier prediction, which may have been of a longer video."""
    for folder in (outputs.labels, outputs.prob):
        if folder is not None and folder.is_dir():
            shutil.rmtree(folder)


class _Overlay:
    """The overlay video, under a temporary name until it is whole."""

    def __init__(self, path: Path | None, rate: float) -> None:
        self.path = path
        self.rate = rate
        self._writer: VideoWriter | None = None

    def __enter__(self) -> _Overlay:
        return self

    def write(self, prediction: Prediction, classes: Classes) -> None:
        if self.path is None:
            return
        image = prediction.picture.image
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = VideoWriter(self._temporary(), self.rate, image.shape[0], image.shape[1])
        self._writer.write(overlaid(image, prediction.label, classes.colors))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path is None or self._writer is None:
            return
        self._writer.close()
        if kind is None:
            os.replace(self._temporary(), self.path)
        else:
            self._temporary().unlink(missing_ok=True)

    def _temporary(self) -> Path:
        assert self.path is not None
        return self.path.with_name(f".{self.path.stem}.{os.getpid()}.tmp.mp4")  # the suffix tells the format
