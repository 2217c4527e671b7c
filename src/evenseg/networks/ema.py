"""The teacher: an exponential moving average of a network."""

from __future__ import annotations

import copy
import weakref
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evenseg.networks.base import SegmentationNetwork
from evenseg.types import NetworkOutput

# Where a tensor lives: the ``_parameters`` or ``_buffers`` of a module, and its name there. Unlike the tensor
# itself, this stays valid when ``.to()`` puts a new tensor in its place.
Slot = tuple[dict[str, Any], str]


class EMATeacher(nn.Module):
    """A copy of a network whose weights follow it: ``teacher <- d teacher + (1 - d) student``.

    The copy includes the extra heads the network has at that moment, so attach heads first. It takes no
    gradient, keeps its mode whatever ``train()`` or ``eval()`` is called on a parent, and is all in the
    state dict.

    Args:
        network: the student, copied.
        decay: d, in [0, 1].
        buffers: what becomes of buffers (batch norm statistics) in an update: "copy" the student's; "ema",
            averaged like the weights (integer ones copied); "own", untouched, for a teacher that collects
            its own statistics by running in train mode.
        mode: "eval" or "train" forward passes.
        warmup: use min(1 - 1 / (k + 1), d) at step k, so that the first update copies the student and the
            early ones average over all steps so far.

    Raises:
        ValueError: decay outside [0, 1], or ``buffers="own"`` in eval mode, which would never change them.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        decay: float = 0.99,
        buffers: Literal["copy", "ema", "own"] = "copy",
        mode: Literal["eval", "train"] = "eval",
        warmup: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise ValueError(f"decay: {decay} is outside [0, 1]")
        if buffers == "own" and mode == "eval":
            raise ValueError('buffers="own" needs mode="train": in eval mode a network collects no statistics')
        self.decay = decay
        self.buffer_policy = buffers
        self.mode = mode
        self.warmup = warmup
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._student: weakref.ref[nn.Module] | None = None  # whose slots are paired below
        self._averaged: tuple[list[Slot], list[Slot]] = ([], [])
        self._copied: tuple[list[Slot], list[Slot]] = ([], [])
        self.train(mode == "train")

    @torch.no_grad()
    def forward(self, image: Tensor) -> NetworkOutput:
        """Images (B, 3, H, W) in [0, 1] to the teacher's output, without gradient."""
        output: NetworkOutput = self.network(image)
        return output

    def train(self, mode: bool = True) -> EMATeacher:
        """Keeps the mode chosen at construction; ``mode`` has no effect."""
        return super().train(self.mode == "train")

    def decay_at(self, step_index: int) -> float:
        """Decay of the update after step ``step_index`` (from 0)."""
        return min(1 - 1 / (step_index + 1), self.decay) if self.warmup else self.decay

    def follows(self, name: str) -> bool:
        """Whether the tensor of this name in the network follows the student's in an update; here all do."""
        return True

    @torch.no_grad()
    def take_buffers(self, student: SegmentationNetwork) -> None:
        """Copy the student's buffers, in place of ``own`` ones for which there are no passes yet."""
        torch._foreach_copy_(list(self.network.buffers()), list(student.buffers()))

    @torch.no_grad()
    def update(self, student: SegmentationNetwork, step_index: int) -> None:
        """Move towards ``student`` after its optimiser step ``step_index`` (from 0).

        Raises:
            ValueError: the student's tensors are not those of the network the teacher was made from.
        """
        if self._student is None or self._student() is not student:
            self._pair(student)
        own, others = (_tensors(slots) for slots in self._averaged)
        torch._foreach_lerp_(own, others, 1 - self.decay_at(step_index))
        own, others = (_tensors(slots) for slots in self._copied)
        if own:
            torch._foreach_copy_(own, others)

    def _pair(self, student: nn.Module) -> None:
        """Find, once per student, which tensors to average and which to copy."""
        own, others = _slots(self.network), _slots(student)
        if own.keys() != others.keys():
            odd = sorted(own.keys() ^ others.keys())
            raise ValueError(
                f"teacher and student differ in {len(odd)} tensors, {odd[0]} for one: "
                "add heads to the network before making its teacher"
            )
        averaged, copied = [], []
        for name, (place, key) in own.items():
            if not self.follows(name):
                continue
            tensor = place[key]
            if isinstance(tensor, nn.Parameter) or (self.buffer_policy == "ema" and tensor.is_floating_point()):
                averaged.append(name)
            elif self.buffer_policy != "own":
                copied.append(name)
        self._averaged = [own[name] for name in averaged], [others[name] for name in averaged]
        self._copied = [own[name] for name in copied], [others[name] for name in copied]
        self._student = weakref.ref(student)

    def __getstate__(self) -> dict[str, Any]:
        # a copy of the teacher pairs its own tensors, and does not drag the student along
        return {**self.__dict__, "_student": None, "_averaged": ([], []), "_copied": ([], [])}


def _slots(network: nn.Module) -> dict[str, Slot]:
    """Slots of all parameters and buffers by name; a shared tensor counts once."""
    slots: dict[str, Slot] = {}
    seen: set[int] = set()
    for prefix, module in network.named_modules():
        for place in (module._parameters, module._buffers):
            for key, tensor in place.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    slots[f"{prefix}.{key}"] = place, key
    return slots


def _tensors(slots: list[Slot]) -> list[Tensor]:
    return [place[key] for place, key in slots]
