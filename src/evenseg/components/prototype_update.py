"""How prototypes follow the labeled pixels: which of these are drawn, and when the prototypes begin to move."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.functional.class_confidence import pixels_per_class
from evenseg.functional.distributed import concatenate_over_ranks, rank, world_size
from evenseg.functional.losses import entropy
from evenseg.functional.multi_entropy import RatioRule, Sampling, class_ratio, sampling_quota, sampling_weight
from evenseg.functional.prototypes import ClassMean, class_means
from evenseg.functional.random import slot_noise
from evenseg.networks.prototypes import PrototypeBank
from evenseg.planes import as_planes, largest_plane
from evenseg.types import Step, ignore_label

ProtoStart = Literal["simplex", "random", "first_batch", "warmup_mean"]
AlphaSchedule = Literal["constant", "tan"]


class PrototypeUpdate(nn.Module):
    """Moves a bank of prototypes to the mean embedding of the labeled pixels that Multi-Entropy Sampling draws.

    The pixels of all processes are sampled as one: their entropies, labels and keys are gathered, the sums of
    embeddings added up. Memory is in the bank, and of ``warmup_mean`` the sums of its pass.

    Source: Ding et al., "Decoupling with Entropy-based Equalization for Semi-Supervised Semantic Segmentation" (DeS4),
    IJCAI 2023, Section 3.3, Eq. 9-12.

    Args:
        num_classes, dimension: C and d of the bank.
        sampling: which pixels are drawn, or how they are weighted.
        momentum: of the prototypes, tau 2.
        ratio: of its pixels that each class gives, see ``class_ratio``.
        min_per_class, max_fraction: see ``sampling_quota``.
        alpha_schedule: ``tan`` raises alpha from 0 to infinity, tan(pi / 2 * step / total), in place of a constant.
        entropy_norm: divide entropies by log C.
        correct_only: leave out pixels that are predicted as another class.
        normalize: embeddings before the mean, the mean, and the prototypes.
        start: what the prototypes are before they move; ``first_batch``: each takes the mean of its class's first
            batch, and averages over all batches until ``momentum`` is reached; ``warmup_mean``: the mean over the
            last ``epoch`` steps of the hold.
        hold: steps in which they do not move.
        epoch: steps of a pass over the labeled images.

    Raises:
        ValueError: ``warmup_mean`` without a hold.
    """

    total: Tensor
    visits: Tensor

    def __init__(
        self,
        num_classes: int,
        dimension: int,
        *,
        sampling: Sampling,
        momentum: float = 0.99,
        ratio: RatioRule = "inverse",
        min_per_class: int = 1,
        max_fraction: float = 1.0,
        alpha_schedule: AlphaSchedule = "constant",
        entropy_norm: bool = False,
        correct_only: bool = False,
        normalize: bool = True,
        start: ProtoStart = "simplex",
        hold: int = 500,
        epoch: int = 1,
    ) -> None:
        super().__init__()
        if start == "warmup_mean" and hold == 0:
            raise ValueError("proto_start: warmup_mean takes the mean of the hold's last steps; set proto_hold above 0")
        self.sampling, self.momentum, self.alpha_schedule = sampling, momentum, alpha_schedule
        self.ratio, self.min_per_class, self.max_fraction = ratio, min_per_class, max_fraction
        self.entropy_norm, self.correct_only, self.normalize = entropy_norm, correct_only, normalize
        self.start, self.hold, self.epoch = start, hold, epoch
        if start == "warmup_mean":
            self.register_buffer("total", torch.zeros(num_classes, dimension))
            self.register_buffer("visits", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def forward(self, bank: PrototypeBank, embedding: Tensor, logits: Tensor, label: Tensor, step: Step) -> None:
        """One (micro-)batch.

        Args:
            bank: moves.
            embedding: (B, d, h, w) of this process.
            logits: (B, C, h, w) of the same cells.
            label: (B, h, w) int64 in 0..C-1, or the ignore label.
            step: where training stands.
        """
        collects = self.start == "warmup_mean" and self.hold - self.epoch <= step.index < self.hold
        if step.index < self.hold and not collects:
            return
        mean = self.means(embedding, logits, label, bank.class_pixels, step)
        if collects:
            self._collect(bank, mean, step)
            return
        momentum: float | Tensor = self.momentum
        if self.start == "first_batch":
            momentum = (1 - 1 / (bank.updates + 1)).clamp(max=self.momentum)
        bank.move(mean, momentum, normalize=self.normalize)

    @torch.no_grad()
    def means(self, embedding: Tensor, logits: Tensor, label: Tensor, class_pixels: Tensor, step: Step) -> ClassMean:
        """The mean embedding of the pixels that are drawn of each class, (C, d), over all processes."""
        classes = logits.shape[1]
        prob = as_planes(logits.detach()).softmax(dim=1)
        if self.correct_only:
            label = label.where(largest_plane(prob)[1] == label, ignore_label(classes))
        size = label[0].numel()
        noise = slot_noise(
            step.seed, step.index, step.labeled_slot, len(label), size, stream="prototypes", device=label.device
        )
        value = entropy(prob) / (math.log(max(classes, 2)) if self.entropy_norm else 1.0)
        confidence = prob.amax(dim=1) if self.sampling.strategy == "confidence" else None
        everywhere = concatenate_over_ranks(label.flatten())
        weight = sampling_weight(
            concatenate_over_ranks(value.flatten()),
            everywhere,
            classes,
            self._quota(everywhere, class_pixels),
            concatenate_over_ranks(noise.flatten()),
            confidence=None if confidence is None else concatenate_over_ranks(confidence.flatten()),
            sampling=self.sampling._replace(alpha=self._alpha(step)),
        )
        own = weight.view(world_size(), *label.shape)[rank()]
        return class_means(embedding, label, own, classes, normalize=self.normalize)

    def _quota(self, label: Tensor, class_pixels: Tensor) -> Tensor:
        classes = len(class_pixels)
        code = torch.where((label >= 0) & (label < classes), label, classes)
        count = pixels_per_class(code.view(1, 1, -1), classes)[0].long()
        return sampling_quota(
            class_ratio(class_pixels, self.ratio),
            count,
            rule=self.ratio,
            min_per_class=self.min_per_class,
            max_fraction=self.max_fraction,
        )

    def _alpha(self, step: Step) -> float:
        if self.alpha_schedule == "constant":
            return self.sampling.alpha
        return math.tan(math.pi / 2 * step.index / max(step.total, 1))

    def _collect(self, bank: PrototypeBank, mean: ClassMean, step: Step) -> None:
        """Adds the means of a step; after the hold's last one the prototypes become the mean of all."""
        known = mean.present & mean.value.isfinite().all(dim=1)
        self.total += torch.where(known[:, None], mean.value, 0.0)
        self.visits += known
        if step.index == self.hold - 1:
            average = self.total / self.visits.clamp(min=1)[:, None]
            bank.move(ClassMean(average, self.visits > 0), 0.0, normalize=self.normalize)
