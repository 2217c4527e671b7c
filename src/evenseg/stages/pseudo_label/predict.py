"""The first pass: what the network says of every pixel, stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from evenseg.errors import InputError
from evenseg.inference.ahead import group_neighbours, map_ahead
from evenseg.inference.evaluate import to_images
from evenseg.inference.pictures import Picture
from evenseg.inference.predict import Autocast, Protocol, evaluating, images_at_once, predict_logits, predict_prob
from evenseg.stages.pseudo_label.encode import Calibrate, encode
from evenseg.stages.pseudo_label.images import Images
from evenseg.stages.pseudo_label.shards import Predicted, Shards

Average = Literal["logits", "prob"]
Outcome = tuple[Tensor, tuple[int, int]] | str  # (C, h, w) logits and (height, width) of the image, or what is wrong
Logits = Callable[[Iterable[int]], Iterator[Outcome]]  # of images by number, in their order
Size = tuple[int, int]


def network_logits(
    model: nn.Module,
    images: Images,
    protocol: Protocol,
    *,
    average: Average = "logits",
    device: torch.device | str = "cpu",
    autocast: Autocast = nullcontext,
    threads: int = 2,
) -> Logits:
    """Logits of a network.

    Args:
        model: maps (B, 3, H, W) images in [0, 1] to (B, C, H, W) logits.
        images: what is predicted.
        protocol: how.
        average: what windows, scales and mirror images are averaged as.
        device, autocast: where and in which precision the model runs.
        threads: that read images.
    """

    look = images.read
    assert look is not None

    def read(number: int) -> Picture | str:
        try:
            return look(number)
        except InputError as error:
            return str(error)

    def predict(group: list[Picture | str]) -> Iterator[Outcome]:
        pictures = [each for each in group if isinstance(each, Picture)]
        if not pictures:
            yield from (each for each in group if isinstance(each, str))
            return
        image = to_images([picture.resized for picture in pictures], device)
        if average == "logits":
            out = predict_logits(model, image, protocol, autocast=autocast)
        else:
            out = _log(predict_prob(model, image, protocol, autocast=autocast))
        for picture, one in zip(pictures, out, strict=True):
            yield one, (picture.image.shape[0], picture.image.shape[1])

    def logits(numbers: Iterable[int]) -> Iterator[Outcome]:
        read_ahead = map_ahead(read, numbers, threads=threads, depth=2 * protocol.batch)
        with evaluating(model):
            for group in group_neighbours(read_ahead, size=_sizes, largest=lambda each: _at_once(each, protocol)):
                yield from predict(group)

    return logits


def stored_logits(files: Sequence[Path], num_classes: int) -> Logits:
    """Logarithms of the (C, H, W) probabilities in npz files, key ``prob``."""

    def logits(numbers: Iterable[int]) -> Iterator[Outcome]:
        for number in numbers:
            prob = _read_prob(files[number], num_classes)
            yield prob if isinstance(prob, str) else (_log(prob.float()), (prob.shape[1], prob.shape[2]))

    return logits


def predict_shards(
    shards: Shards,
    names: Sequence[str],
    logits: Logits,
    *,
    calibrate: Calibrate | None = None,
    as_prob: bool = False,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the shards that are not there yet; every process its own share.

    Args:
        shards: where to.
        names: of the images, for messages.
        logits: what the network says.
        calibrate, as_prob: see ``encode``.
        rank, world_size: this process writes shards rank, rank + world_size, ...
        progress: called with (images done, images of this process).
    """
    own = range(rank, len(shards), world_size)
    missing = [shard for shard in own if not shards.path(shard).exists()]
    total = sum(len(shards.members(shard)) for shard in own)
    done = total - sum(len(shards.members(shard)) for shard in missing)

    def predictions(shard: int) -> Iterator[Predicted]:
        nonlocal done
        for number, outcome in zip(shards.members(shard), logits(shards.members(shard)), strict=True):
            if isinstance(outcome, str):
                yield Predicted.nothing(outcome)
            else:
                yield Predicted(*encode(*outcome, names[number], calibrate, as_prob=as_prob))
            done += 1
            if progress is not None:
                progress(done, total)

    for shard in missing:
        shards.write(shard, predictions(shard))


def _log(prob: Tensor) -> Tensor:
    """In place; of 0 a finite number, so that interpolation stays finite."""
    return prob.clamp_(min=torch.finfo(prob.dtype).tiny).log_()


def _sizes(picture: Picture | str) -> tuple[Size, Size] | None:
    if isinstance(picture, str):
        return None
    return (picture.image.shape[0], picture.image.shape[1]), (picture.resized.shape[0], picture.resized.shape[1])


def _at_once(sizes: tuple[Size, Size] | None, protocol: Protocol) -> int:
    return 1 if sizes is None else images_at_once(sizes[1], protocol)


def _read_prob(path: Path, num_classes: int) -> Tensor | str:
    try:
        with np.load(path, allow_pickle=False) as archive:
            prob = torch.from_numpy(archive["prob"])
    except Exception as error:  # whatever a damaged archive brings about
        return f"{path}: no npz file with the key prob ({type(error).__name__}); write it again"
    if prob.ndim != 3 or len(prob) != num_classes or not prob.is_floating_point():
        shape = "x".join(map(str, prob.shape))
        return f"{path}: prob is {shape}; it has to be {num_classes} classes x height x width, of floats"
    if not bool((prob >= 0).all()):
        return f"{path}: prob holds numbers that are no probabilities; write the softmax of the logits"
    return prob
