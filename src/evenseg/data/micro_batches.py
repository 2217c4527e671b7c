"""A whole micro-batch as one item of a data set: read, cropped, scaled and stacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from evenseg.data.batches import RawBatch, stack
from evenseg.data.dataset import Dataset
from evenseg.data.geometry import WeakSpec, WeakView, weak_view
from evenseg.data.samplers import Share, Stream
from evenseg.errors import InputError

Position = tuple[int, int]  # step, micro-batch
LabelMaps = Callable[[int], dict[str, np.ndarray]]  # further (H, W) integer maps of an image, by its position
Array = TypeVar("Array", np.ndarray, np.ndarray | None)


class Source(NamedTuple):
    """One of the two streams of images: where they come from, in which order, how many, how seen."""

    dataset: Dataset
    stream: Stream
    share: Share
    spec: WeakSpec


class MicroBatches(TorchDataset[tuple[int, int, RawBatch]]):
    """Random access to micro-batches by (step, micro-batch); see ``loaders.build_loader``."""

    def __init__(
        self,
        labeled: Source,
        unlabeled: Source | None,
        *,
        unlabeled_from: int = 0,
        max_unreadable: int = 0,
        labeled_maps: LabelMaps | None = None,
    ) -> None:
        self.labeled = labeled
        self.labeled_maps = labeled_maps
        self.unlabeled = unlabeled
        self.unlabeled_from = unlabeled_from
        self.max_unreadable = max_unreadable

    def __getitem__(self, position: Position) -> tuple[int, int, RawBatch]:
        step, micro = position
        try:
            return step, micro, self._load(step, micro)
        except InputError as error:  # told, not thrown: a worker's exception would arrive as a traceback
            return step, micro, _nothing(str(error))

    def _load(self, step: int, micro: int) -> RawBatch:
        source = self.labeled
        drawn = [self._draw_labeled(source, draw) for draw in source.share.draws(step, micro)]
        maps = _stack_maps([view.maps for _, view in drawn])
        raw = RawBatch(
            labeled_image=stack([view.image for _, view in drawn]),
            labeled_label=maps.pop("label"),
            labeled_index=torch.tensor([index for index, _ in drawn]),
            labeled_maps=maps,
        )
        if self.unlabeled is None or step < self.unlabeled_from:
            return raw
        source = self.unlabeled
        unreadable: dict[str, None] = {}  # an ordered set
        drawn = [
            unlabeled_view(source, draw, unreadable, self.max_unreadable) for draw in source.share.draws(step, micro)
        ]
        return raw._replace(
            unlabeled_image=stack([view.image for _, view in drawn]),
            unlabeled_valid=stack([view.valid for _, view in drawn]),
            unlabeled_index=torch.tensor([index for index, _ in drawn]),
            unlabeled_maps=_stack_maps([view.maps for _, view in drawn]),
            unreadable=tuple(unreadable),
        )

    def _draw_labeled(self, source: Source, draw: int) -> tuple[int, WeakView]:
        dataset = source.dataset
        index = source.stream.index(draw)
        image, label = _read(dataset, dataset.image, index), _read(dataset, dataset.label, index)
        if label is None:
            raise InputError(f"{dataset.name(index)}: is in data.labeled but has no label; give it one or take it out")
        maps = self.labeled_maps(index) if self.labeled_maps is not None else {}
        return index, weak_view(image, {**maps, "label": label}, source.stream.generator(draw), source.spec)


def unlabeled_view(source: Source, draw: int, unreadable: dict[str, None], max_unreadable: int) -> tuple[int, WeakView]:
    """The image of a draw, or the next one of the stream that can be read; its position, and a weak view of it.

    The map ``truth`` is its label, where that is known. Unreadable images are noted in ``unreadable``.

    Raises:
        InputError: ``unreadable`` has more than ``max_unreadable`` messages.
    """
    dataset, stream = source.dataset, source.stream
    for later in range(stream.length):
        index = stream.index(draw + later)
        try:
            image = _read(dataset, dataset.image, index)
            truth = _read(dataset, dataset.label, index)
        except InputError as error:
            unreadable[str(error)] = None
            if len(unreadable) > max_unreadable:
                raise InputError(f"{error}, or raise data.max_unreadable (now {max_unreadable})") from None
            continue
        maps = {} if truth is None else {"truth": truth}
        return index, weak_view(image, maps, stream.generator(draw), source.spec)
    raise InputError(
        f"data.unlabeled: none of the {stream.length} images can be read, such as {next(iter(unreadable))}"
    )


def _read(dataset: Dataset, read: Callable[[int], Array], index: int) -> Array:
    try:
        return read(index)
    except InputError:
        raise
    except Exception as error:  # whatever a decoder throws at a broken file
        raise InputError(f"{dataset.name(index)}: cannot be read ({type(error).__name__}: {error})") from error


def _stack_maps(maps: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    return {name: stack([each[name] for each in maps]) for name in maps[0]}


def _nothing(fatal: str) -> RawBatch:
    return RawBatch(
        torch.empty(0, dtype=torch.uint8),
        torch.empty(0, dtype=torch.uint8),
        torch.empty(0, dtype=torch.int64),
        {},
        fatal=fatal,
    )
