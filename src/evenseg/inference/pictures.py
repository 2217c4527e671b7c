"""From a stream of images to a stream of predictions, at the size of the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.data.resize import Resize, resize_image
from evenseg.inference.ahead import group_neighbours
from evenseg.inference.evaluate import to_images
from evenseg.inference.predict import Autocast, Protocol, images_at_once, predict_label, predict_prob

CLASSES_AT_ONCE = 8  # classes whose probabilities are enlarged at a time


class Picture(NamedTuple):
    """An image under its output's name, as it is shown and as large as the network was trained on."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8
    resized: np.ndarray  # (h, w, 3) uint8


class Prediction(NamedTuple):
    """The labels of a picture, and its probabilities where wanted."""

    picture: Picture
    label: np.ndarray  # (H, W) int32
    prob: np.ndarray | None  # (C, H, W) float16


def make_picture(name: str, image: np.ndarray, resize: Resize) -> Picture:
    """A picture of an (H, W, 3) uint8 image; resize: as ``data.resize``."""
    return Picture(name, image, resize_image(image, resize))


def predict_pictures(
    model: nn.Module,
    pictures: Iterable[Picture],
    protocol: Protocol,
    *,
    prob: bool = False,
    device: torch.device | str = "cpu",
    autocast: Autocast = nullcontext,
) -> Iterator[Prediction]:
    """Predictions in the order of the pictures; neighbours of equal size share a call of the network.

    Args:
        model: maps (B, 3, H, W) images in [0, 1] to (B, C, H, W) logits, in evaluation mode.
        pictures: taken a group at a time, so that no more of them than a group need be in memory.
        protocol: how to predict.
        prob: whether to keep the probabilities.
        device, autocast: where and in which precision the model runs.
    """
    for group in group_neighbours(pictures, size=_sizes, largest=lambda size: images_at_once(size[1], protocol)):
        yield from _predict(model, group, protocol, prob, torch.device(device), autocast)


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


def _sizes(picture: Picture) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the image and of the network's input."""
    return (picture.image.shape[0], picture.image.shape[1]), (picture.resized.shape[0], picture.resized.shape[1])


def _predict(
    model: nn.Module,
    group: list[Picture],
    protocol: Protocol,
    keep_prob: bool,
    device: torch.device,
    autocast: Autocast,
) -> Iterator[Prediction]:
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
        yield Prediction(picture, one, prob)
