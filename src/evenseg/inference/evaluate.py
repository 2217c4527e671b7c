"""Score a model on a labeled data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from evenseg.errors import InputError
from evenseg.functional.distributed import sum_over_ranks
from evenseg.inference.ahead import group_neighbours, map_ahead
from evenseg.inference.predict import Autocast, Protocol, evaluating, images_at_once, predict_label
from evenseg.metrics.confusion import ConfusionMatrix, confusion_counts
from evenseg.metrics.image_counts import image_counts as counts_of_image
from evenseg.metrics.object_size import ObjectSizes

if TYPE_CHECKING:
    from evenseg.data.dataset import Dataset


class _Pair(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8
    label: np.ndarray  # (H, W) uint8 or int32


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    protocol: Protocol,
    *,
    device: torch.device | str = "cpu",
    autocast: Autocast = nullcontext,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 2,
    image_counts: Tensor | None = None,
    objects: ObjectSizes | None = None,
) -> ConfusionMatrix:
    """The confusion matrix of a model on a data set, at the resolution that the data set gives.

    The model runs in evaluation mode and gets its modes back. Images are read ahead in threads;
    neighbours of equal size share a call of the network. No image is padded or counted twice.

    Args:
        model: maps (B, 3, H, W) images in [0, 1] to (B, C, H, W) logits.
        dataset: images with labels.
        protocol: how to predict.
        device: where the model is.
        autocast: makes the precision context that each call of the model runs in.
        rank, world_size: this process scores images rank, rank + world_size, ...; where ranks
            are processes of a distributed run, all must call this function.
        progress: called with (images done, images of this rank).
        threads: that read images.
        image_counts: (N, 3, C) int64 zeros on the CPU for the N images of the data set; filled with what
            each contributes, see ``metrics.image_counts``.
        objects: to which the objects of all images are added.

    Returns:
        The matrix of all ranks, on the CPU.

    Raises:
        InputError: an image has no label, or one of another size.
    """
    device = torch.device(device)
    indices = range(rank, len(dataset), world_size)
    matrix = ConfusionMatrix(dataset.classes.num_classes, device=device)
    pairs = map_ahead(lambda index: _read(dataset, index), indices, threads=threads, depth=2 * protocol.batch)
    done = 0
    with evaluating(model):
        for group in group_neighbours(pairs, size=_size, largest=lambda size: images_at_once(size, protocol)):
            pred = predict_label(model, to_images([pair.image for pair in group], device), protocol, autocast=autocast)
            labels = torch.from_numpy(np.stack([pair.label for pair in group])).to(device)
            for predicted, label in zip(pred, labels, strict=True):
                counts = confusion_counts(predicted, label, matrix.num_classes)
                matrix.counts += counts
                if image_counts is not None:
                    image_counts[indices[done]] = counts_of_image(counts).cpu()
                if objects is not None:
                    objects.update(predicted, label)
                done += 1
            if progress is not None:
                progress(done, len(indices))
    matrix.all_reduce()
    matrix.counts = matrix.counts.cpu()
    if image_counts is not None and world_size > 1:
        image_counts.copy_(sum_over_ranks(image_counts.to(device)))
    if objects is not None and world_size > 1:
        objects.all_reduce(device)
    return matrix


def to_images(images: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    """(H, W, 3) uint8 images of one size as (B, 3, H, W) float in [0, 1], channels last, on the device."""
    stack = torch.from_numpy(np.stack(images)).to(device)  # bytes travel, floats are made at the target
    return stack.permute(0, 3, 1, 2).float().div_(255)


def _read(dataset: Dataset, index: int) -> _Pair:
    image, label = dataset.image(index), dataset.label(index)
    if label is None:
        raise InputError(f"{dataset.name(index)}: has no label to score against; give a list with a label column")
    if label.shape != image.shape[:2]:
        raise InputError(
            f"{dataset.name(index)}: the label is {label.shape[0]}x{label.shape[1]} pixels, the image "
            f"{image.shape[0]}x{image.shape[1]}; make them the same size"
        )
    narrow = label if label.dtype == np.uint8 else label.astype(np.int32)  # torch counts no uint16
    return _Pair(image, narrow)


def _size(pair: _Pair) -> tuple[int, int]:
    return pair.image.shape[0], pair.image.shape[1]
