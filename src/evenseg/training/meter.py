"""Means of what the steps log, between two logging points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks, world_size


class Meter:
    """Sums of logged values on the device, read at logging points; part of a checkpoint in between."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """One step's tensors, of any dtype; a name may be missing in some steps, but equally on all ranks."""
        for name, value in values.items():
            value = value.float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def share(self) -> None:
        """Makes the sums of all ranks their mean; called by all ranks together, before a checkpoint."""
        if self._sums and world_size() > 1:
            # a loss of a rank is in the form whose mean over ranks is the loss of the global batch
            self._sums = self._parts(sum_over_ranks(self._flat()) / world_size())

    def means(self) -> dict[str, Tensor]:
        """Mean over steps and ranks of each value since the last call, on the host; called by all ranks together."""
        if not self._sums:
            return {}
        self.share()
        sums = self._parts(self._flat().cpu().double())  # the one wait for the device
        means = {name: total / self._counts[name] for name, total in sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums as they are: means over ranks up to the last ``share``, since then this rank's own."""
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes back a state, the same on every rank, so that its mean over ranks is itself."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])

    def _flat(self) -> Tensor:
        return torch.cat([value.flatten() for value in self._sums.values()])

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """What ``_flat`` has put in a row, by name and in the old shapes."""
        parts = torch.split(flat, [value.numel() for value in self._sums.values()])
        return {name: part.view(value.shape) for (name, value), part in zip(self._sums.items(), parts, strict=True)}
