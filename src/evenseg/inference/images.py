"""Predict image files into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from evenseg.data.classes import Classes
from evenseg.data.image_io import decode_image
from evenseg.data.resize import Resize
from evenseg.errors import InputError
from evenseg.inference.ahead import map_ahead
from evenseg.inference.inputs import Source
from evenseg.inference.job import Job
from evenseg.inference.outputs import explained, write_label, write_overlay, write_prob
from evenseg.inference.pictures import Picture, Prediction, make_picture
from evenseg.inference.predict import evaluating


class Failure(NamedTuple):
    """An image that could not be read. message: one line that names it, the fault and the remedy."""

    path: Path
    message: str


class Files(NamedTuple):
    """Where the outputs of one image go; None: not wanted."""

    label: Path
    overlay: Path | None
    prob: Path | None


def predict_images(
    job: Job,
    sources: Sequence[Source],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Failure]:
    """Write label maps, and overlays and probabilities where wanted, of images at their own resolution.

    ``OUTPUT/labels/NAME.png``, ``OUTPUT/overlays/NAME.jpg``, ``OUTPUT/probabilities/NAME.npz``, see
    ``outputs``. An image that cannot be read is left out and reported; all others are written.

    Args:
        job: the network, and what is wanted of it.
        sources: images and the names of their outputs, see :func:`inputs.expand_inputs`.
        overwrite: whether existing files may be replaced.
        progress: called with (images done or left out, images).

    Returns:
        The images left out.

    Raises:
        InputError: a file exists and ``overwrite`` is False (nothing is written), or cannot be written.
    """
    files = {source.name: files_of(job.output, source.name, overlay=job.overlay, prob=job.prob) for source in sources}
    if not overwrite:
        refuse_existing(list(files.values()))
    with explained(job.output):
        job.output.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []
    threads = job.threads

    def pictures() -> Iterator[Picture]:
        read = partial(_read, resize=job.resize)
        for item in map_ahead(read, sources, threads=threads, depth=2 * job.protocol.batch):
            if isinstance(item, Failure):
                failures.append(item)
            else:
                yield item

    def write(prediction: Prediction) -> None:
        write_prediction(files[prediction.picture.name], prediction, job.classes)

    with evaluating(job.model):
        predictions = job.predictions(pictures())
        for written, _ in enumerate(map_ahead(write, predictions, threads=threads, depth=2 * threads), start=1):
            if progress is not None:
                progress(written + len(failures), len(sources))
    if progress is not None:
        progress(len(sources), len(sources))
    return failures


def refuse_existing(files: Sequence[Files]) -> None:
    """Raise ``InputError`` that names the first file that exists already."""
    for path in (path for one in files for path in one if path is not None):
        if path.exists():
            raise InputError(f"{path}: exists already; add --overwrite, or choose another --output")


def files_of(output: Path, name: str, *, overlay: bool, prob: bool) -> Files:
    """The outputs of the image of a name."""
    return Files(
        output / "labels" / f"{name}.png",
        output / "overlays" / f"{name}.jpg" if overlay else None,
        output / "probabilities" / f"{name}.npz" if prob else None,
    )


def _read(source: Source, resize: Resize) -> Picture | Failure:
    try:
        image = decode_image(source.path)
    except InputError as error:
        return Failure(source.path, str(error))
    return make_picture(source.name, image, resize)


def write_prediction(files: Files, prediction: Prediction, classes: Classes) -> None:
    """Write what is wanted of a prediction. Raises InputError where that cannot be done."""
    with explained(files.label):
        write_label(files.label, prediction.label, classes)
        if files.overlay is not None:
            write_overlay(files.overlay, prediction.picture.image, prediction.label, classes)
        if files.prob is not None and prediction.prob is not None:
            write_prob(files.prob, prediction.prob)
