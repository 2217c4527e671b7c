"""Predict image files into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from evenseg.data.classes import Classes
from evenseg.data.image_io import decode_image
from evenseg.data.resize import Resize
from evenseg.errors import InputError
from evenseg.inference.ahead import map_ahead
from evenseg.inference.inputs import Source
from evenseg.inference.outputs import explained, write_label, write_overlay, write_prob
from evenseg.inference.pictures import Picture, Prediction, make_picture, predict_pictures
from evenseg.inference.predict import Autocast, Protocol, evaluating


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
    model: nn.Module,
    sources: Sequence[Source],
    output: Path,
    classes: Classes,
    protocol: Protocol,
    *,
    resize: Resize = None,
    overlay: bool = True,
    prob: bool = False,
    overwrite: bool = False,
    device: torch.device | str = "cpu",
    autocast: Autocast = nullcontext,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 2,
) -> list[Failure]:
    """Write label maps, and overlays and probabilities where wanted, of images at their own resolution.

    ``OUTPUT/labels/NAME.png``, ``OUTPUT/overlays/NAME.jpg``, ``OUTPUT/probabilities/NAME.npz``, see
    ``outputs``. An image that cannot be read is left out and reported; all others are written.

    Args:
        model: maps (B, 3, H, W) images in [0, 1] to (B, C, H, W) logits.
        sources: images and the names of their outputs, see :func:`inputs.expand_inputs`.
        output: folder to write to; made if missing.
        classes: names and colours.
        protocol: how to predict.
        resize: the network's input as in training (``data.resize``): short side, or (height, width);
            probabilities are enlarged to the image before the most probable class is taken.
        overlay, prob: whether to write them.
        overwrite: whether existing files may be replaced.
        device, autocast: where and in which precision the model runs.
        progress: called with (images done or left out, images).
        threads: that read, and as many that write.

    Returns:
        The images left out.

    Raises:
        InputError: a file exists and ``overwrite`` is False (nothing is written), or cannot be written.
    """
    files = {source.name: files_of(output, source.name, overlay=overlay, prob=prob) for source in sources}
    if not overwrite:
        refuse_existing(list(files.values()))
    with explained(output):
        output.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []

    def pictures() -> Iterator[Picture]:
        for item in map_ahead(lambda source: _read(source, resize), sources, threads=threads, depth=2 * protocol.batch):
            if isinstance(item, Failure):
                failures.append(item)
            else:
                yield item

    predictions = predict_pictures(model, pictures(), protocol, prob=prob, device=device, autocast=autocast)

    def write(prediction: Prediction) -> None:
        write_prediction(files[prediction.picture.name], prediction, classes)

    with evaluating(model):
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
