"""The subclasses of all classes: centers and prices, which say of every feature of a class to which it belongs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from evenseg.errors import InputError


class Codebook(NamedTuple):
    """counts: (C,) int64, subclasses of each class, which own consecutive ids. centers: (S, D) float32. prices: (S,)
    float32; 0 for the only subclass of a class, whose center is never asked for."""

    counts: Tensor
    centers: Tensor
    prices: Tensor

    @property
    def offsets(self) -> Tensor:
        """(C,) int64, the first subclass of each class."""
        return self.counts.cumsum(0) - self.counts

    def of_class(self, number: int) -> slice:
        """The ids of the subclasses of a class."""
        first = int(self.offsets[number])
        return slice(first, first + int(self.counts[number]))

    def cost(self, number: int, feature: Tensor) -> Tensor:
        """Squared distances (n, K) of features (n, D) from the centers of a class, each less one number per row."""
        centers = self.centers[self.of_class(number)]
        middle = centers.mean(dim=0)  # around which squares are small and do not cancel
        own = centers - middle
        return torch.addmm(own.square().sum(dim=1), feature.float() - middle, own.T, alpha=-2)

    def assign(self, feature: Tensor, group: Tensor) -> Tensor:
        """The subclass of each feature: of its class, that with the least squared distance and price, the first of
        several. feature: (n, D). group: (n,) int64, classes. Returns (n,) int64."""
        found = self.offsets.to(feature.device)[group]
        for number in torch.bincount(group).nonzero().squeeze(1).tolist():
            if self.counts[number] > 1:
                index = (group == number).nonzero().squeeze(1)
                cost = self.cost(number, feature[index]) + self.prices[self.of_class(number)]
                found[index] += cost.argmin(dim=1)
        return found

    def to(self, device: torch.device | str) -> Codebook:
        """Centers and prices on a device."""
        return self._replace(centers=self.centers.to(device), prices=self.prices.to(device))


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file, in one piece or not at all. Raises InputError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save({name: value.cpu().contiguous() for name, value in tensors.items()}))
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); mend that and run the same command to go on"
        ) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Raises InputError where the file is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        raise InputError(f"{path}: missing or damaged; delete it and run the same command to make it anew") from None
