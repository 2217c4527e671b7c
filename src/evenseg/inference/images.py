"""Predict image files into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.data.classes import Classes
from evenseg.data.image_io import decode_image
from evenseg.data.resize import Resize, resize_image
from evenseg.errors import InputError
from evenseg.inference.ahead import group_neighbours, map_ahead
from evenseg.inference.evaluate import to_images
from evenseg.inference.inputs import Source
from evenseg.inference.outputs import explained, write_label, write_overlay, write_prob
from evenseg.inference.predict import Autocast, Protocol, evaluating, images_at_once, predict_label, predict_prob

CLASSES_AT_ONCE = 8  # classes whose probabilities are enlarged at a time


class Failure(NamedTuple):
    """An image that could not be read. message: one line that names it, the fault and the remedy."""

    path: Path
    message: str


class Files(NamedTuple):
    """Where the outputs of one image go; None: not wanted."""

    label: Path
    overlay: Path | None
    prob: Path | None


class _Picture(NamedTuple):
    source: Source
    image: np.ndarray  # (H, W, 3) uint8, upright, as large as the file
    resized: np.ndarray  # (h, w, 3) uint8, as large as the network was trained on


class _Prediction(NamedTuple):
    picture: _Picture
    label: np.ndarray  # (H, W) uint8 or int32
    prob: np.ndarray | None  # (C, H, W) float16


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
    files = {source.path: _files(output, source.name, overlay, prob) for source in sources}
    if not overwrite:
        refuse_existing(list(files.values()))
    with explained(output):
        output.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []

    def pictures() -> Iterator[_Picture]:
        for item in map_ahead(lambda source: _read(source, resize), sources, threads=threads, depth=2 * protocol.batch):
            if isinstance(item, Failure):
                failures.append(item)
            else:
                yield item

    def predictions() -> Iterator[_Prediction]:
        for group in group_neighbours(pictures(), size=_sizes, largest=lambda s: images_at_once(s[1], protocol)):
            yield from _predict(model, group, protocol, prob, torch.device(device), autocast)

    def write(prediction: _Prediction) -> None:
        _write(files[prediction.picture.source.path], prediction, classes)

    with evaluating(model):
        for written, _ in enumerate(map_ahead(write, predictions(), threads=threads, depth=2 * threads), start=1):
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


def enlarged_label(prob: Tensor, size: tuple[int, int]) -> Tensor:
    """The most probable class after bilinear enlargement, without holding all classes at full size.

    Args:
        prob: (B, C, h, w) float32.
        size: (H, W).

    Returns:
        (B, H, W) int64.
    """
    best = prob.new_full((len(prob), *size), -1.0)
    label = torch.zeros(best.shape, dtype=torch.int64, device=prob.device)
    for first in range(0, prob.shape[1], CLASSES_AT_ONCE):
        value, index = _enlarged(prob[:, first : first + CLASSES_AT_ONCE], size).max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        label = torch.where(better, index + first, label)
    return label


def _enlarged(prob: Tensor, size: tuple[int, int]) -> Tensor:
    if prob.shape[-2:] == size:
        return prob
    return F.interpolate(prob, size=size, mode="bilinear", align_corners=False)


def _files(output: Path, name: str, overlay: bool, prob: bool) -> Files:
    return Files(
        output / "labels" / f"{name}.png",
        output / "overlays" / f"{name}.jpg" if overlay else None,
        output / "probabilities" / f"{name}.npz" if prob else None,
    )


def _read(source: Source, resize: Resize) -> _Picture | Failure:
    try:
        image = decode_image(source.path)
    except InputError as error:
        return Failure(source.path, str(error))
    return _Picture(source, image, resize_image(image, resize))


def _sizes(picture: _Picture) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the file and of the network's input."""
    return (picture.image.shape[0], picture.image.shape[1]), (picture.resized.shape[0], picture.resized.shape[1])


def _predict(
    model: nn.Module,
    group: list[_Picture],
    protocol: Protocol,
    keep_prob: bool,
    device: torch.device,
    autocast: Autocast,
) -> Iterator[_Prediction]:
    size, network_size = _sizes(group[0])
    image = to_images([picture.resized for picture in group], device)
    probs: list[np.ndarray] | list[None] = [None] * len(group)
    if keep_prob:
        full = _enlarged(predict_prob(model, image, protocol, autocast=autocast), size)
        label = full.max(dim=1).indices
        probs = list(full.half().cpu().numpy())
    elif size == network_size:
        label = predict_label(model, image, protocol, autocast=autocast)
    else:
        label = enlarged_label(predict_prob(model, image, protocol, autocast=autocast), size)
    labels = label.to(torch.int32).cpu().numpy()
    for picture, one, prob in zip(group, labels, probs, strict=True):
        yield _Prediction(picture, one, prob)


def _write(files: Files, prediction: _Prediction, classes: Classes) -> None:
    with explained(files.label):
        write_label(files.label, prediction.label, classes)
        if files.overlay is not None:
            write_overlay(files.overlay, prediction.picture.image, prediction.label, classes)
        if files.prob is not None and prediction.prob is not None:
            write_prob(files.prob, prediction.prob)
