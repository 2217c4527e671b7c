"""Images and a network that cost nothing, and what a rule ought to make of them, by sorting everything at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from evenseg.data.classes import Classes, palette
from evenseg.stages.pseudo_label.images import Images
from evenseg.stages.pseudo_label.label import Labeling, Ranks, Selected
from evenseg.stages.pseudo_label.predict import Outcome
from evenseg.stages.pseudo_label.rules import Rule
from evenseg.types import ignore_label

SIZES = [(7, 9), (12, 5), (1, 1), (8, 8)]


def classes(count: int) -> Classes:
    return Classes(tuple(f"class {i}" for i in range(count)), palette(count), ignore_label(count))


def images(count: int, *, truth: bool = False) -> Images:
    names = tuple(f"day/{number:03d}" for number in range(count))

    def label(number: int) -> np.ndarray | None:
        height, width = SIZES[number % len(SIZES)]
        return np.full((height, width), 1, np.uint8) if truth else None

    return Images(names, tuple(f"{name}.jpg" for name in names), label)


class FakeNetwork:
    """Logits of image n by a generator seeded with n. kind: ``random``, ``equal`` confidences, ``sure`` (many 1.0), or
    ``certain`` (all 1.0).

    Class 2 is never predicted. broken: images that cannot be read.
    """

    def __init__(self, num_classes: int, kind: str = "random", broken: tuple[int, ...] = ()) -> None:
        self.num_classes, self.kind, self.broken = num_classes, kind, broken
        self.calls: list[int] = []

    def __call__(self, numbers: Iterable[int]) -> Iterator[Outcome]:
        for number in numbers:
            self.calls.append(number)
            yield f"day/{number:03d}.jpg: is empty" if number in self.broken else self.outcome(number)

    def outcome(self, number: int) -> tuple[torch.Tensor, tuple[int, int]]:
        g = torch.Generator().manual_seed(number)
        size = SIZES[number % len(SIZES)]
        logits = torch.randn(self.num_classes, *size, generator=g)
        if self.num_classes > 2:
            logits[2] = -50
        if self.kind == "equal":
            logits = torch.where(logits == logits.max(dim=0).values, 3.0, 0.0)
        if self.kind == "sure":
            logits *= 8
        if self.kind == "certain":
            logits = torch.where(logits == logits.max(dim=0).values, 50.0, 0.0)
        return logits, size


def label_all(
    output: Path,
    rule: Rule,
    prior: torch.Tensor,
    *,
    network: FakeNetwork | None = None,
    count: int = 40,
    seed: int = 0,
    name: str = "labels",
    truth: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008 - immutable
) -> Selected:
    network = network or FakeNetwork(len(prior))
    labeling = Labeling(output, images(count, truth=truth), classes(len(prior)), ranks)
    return labeling.select(labeling.predict(network, None), rule, prior, name=name, seed=seed)


def everything(network: FakeNetwork, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidence as float16 and class of all pixels of all readable images, in their order."""
    found = [network.outcome(number)[0].double().softmax(0).flatten(1) for number in range(count)]
    prob = torch.cat([each for number, each in enumerate(found) if number not in network.broken], dim=1)
    value, label = prob.max(dim=0)
    return value.float().numpy().astype(np.float16), label.numpy()
