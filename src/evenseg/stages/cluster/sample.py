"""Some cells of each class, drawn from all images: those with the smallest keys, whoever looks, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.functional.distributed import gather_over_ranks
from evenseg.functional.pixel_keys import pixel_keys, smallest
from evenseg.stages.cluster.features import CellFiles


class Drawn(NamedTuple):
    """Cells: key, image (its number), place (row-major in it) and group (the class), (n,) int64 each."""

    key: Tensor
    image: Tensor
    place: Tensor
    group: Tensor

    @classmethod
    def join(cls, parts: Iterable[Drawn]) -> Drawn:
        """One after the other."""
        nothing = torch.empty(0, dtype=torch.int64)
        return cls(*(torch.cat(each) for each in zip(cls(*[nothing] * 4), *parts, strict=True)))

    def at(self, index: Tensor) -> Drawn:
        """Some of them."""
        return Drawn(*(each[index] for each in self))


def draw_cells(files: CellFiles, names: Iterable[tuple[int, str]], wanted: Tensor, *, seed: int) -> Drawn:
    """Of each class as many cells as wanted, or all; over all processes.

    Args:
        files: the cells.
        names: (number, name) of the images of this process.
        wanted: (C,) int64 cells.
        seed: another one draws other cells.

    Returns:
        By class, and within it by key.
    """
    own, largest = Drawn.join([]), 2 * int(wanted.sum()) + 100_000
    for number, name in names:
        label = torch.from_numpy(files.read(name).label.astype("int64")).flatten()
        place = (label < len(wanted)).nonzero().squeeze(1)
        place = place[wanted[label[place]] > 0]
        keys = pixel_keys(name, place, seed=seed)
        own = Drawn.join([own, Drawn(keys, torch.full_like(place, number), place, label[place])])
        if len(own.key) > largest:
            own = _cut(own, wanted)
    everyone = _cut(Drawn.join(gather_over_ranks(_cut(own, wanted))), wanted)
    order = everyone.key.argsort(stable=True)
    return everyone.at(order[everyone.group[order].argsort(stable=True)])


def gather_features(files: CellFiles, names: Iterable[tuple[int, str]], drawn: Drawn) -> Tensor:
    """The features of the drawn cells, (n, D) float16 or float32, read by the processes whose images they are in."""
    places, features = [torch.empty(0, dtype=torch.int64)], []
    for number, name in names:
        index = (drawn.image == number).nonzero().squeeze(1)
        if len(index):
            feature = torch.from_numpy(files.read(name).feature).flatten(0, 1)
            places.append(index)
            features.append(feature[drawn.place[index]])
    found = [each for each in gather_over_ranks((torch.cat(places), features)) if each[1]]
    if not found:
        return torch.empty(0, 0, dtype=torch.float16)
    place, values = torch.cat([each[0] for each in found]), torch.cat([torch.cat(each[1]) for each in found])
    gathered = torch.empty_like(values)
    gathered[place] = values
    return gathered


def _cut(drawn: Drawn, wanted: Tensor) -> Drawn:
    return drawn.at(smallest(drawn.key, drawn.group, wanted))
