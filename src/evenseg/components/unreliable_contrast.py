"""Contrast with what a class is surely not: U2PL's use of the pseudo-labels that are not trusted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from evenseg.components.class_queues import ClassQueues
from evenseg.functional.distributed import sum_over_ranks, world_size
from evenseg.functional.negative_contrast import (
    Chosen,
    choose_anchors,
    choose_negatives,
    class_means,
    likeliest_classes,
    negative_contrast,
    unlikely_classes,
)
from evenseg.functional.random import slot_noise, spread
from evenseg.types import Step

NO_CLASS = -1


class Cells(NamedTuple):
    """P cells of each of B images, the labeled images first.

    student: (B, P, D) embeddings with gradient. teacher: (B, P, D). logits: (B, C, P) float32 of the teacher.
    label: (B, P) int64, label or pseudo-label, negative where there is none. reliable: (B, P) bool, cells whose label
    is trusted. unreliable: (B, P) bool, those whose label is not, of unlabeled images alone. labeled: how many
    of the images are labeled.
    """

    student: Tensor
    teacher: Tensor
    logits: Tensor
    label: Tensor
    reliable: Tensor
    unreliable: Tensor
    labeled: int


class UnreliableContrast(nn.Module):
    """Pulls trusted embeddings to the centre of their class and away from what is surely of another one.

    A pixel that the teacher is unsure of tells at least which classes it does not show: those far down in its order.
    Such embeddings, and those of labeled pixels that look like a class which they are not, wait in a queue of each
    class to be its negatives.

    Source: Wang et al., "Semi-Supervised Semantic Segmentation Using Unreliable Pseudo-Labels" (U2PL), CVPR 2022,
    Section 3.3.

    Args:
        num_classes: C.
        dimension: of the embeddings.
        anchors: of each class, at most.
        confidence: the teacher's of the label, which an anchor has to exceed.
        negatives: of each anchor.
        pool: embeddings of a class' queue that its anchors pick their negatives from in a step.
        low_rank, high_rank: a class is a negative of an unsure pixel from one rank to below the other, from 0.
        queue, first_queue: how many negatives are remembered of each class, and of class 0.
        queued: new negatives of each class and image in a step, at most.
        temperature: of the similarity.
    """

    def __init__(
        self,
        num_classes: int,
        dimension: int,
        *,
        anchors: int,
        confidence: float,
        negatives: int,
        pool: int,
        low_rank: int,
        high_rank: int,
        queue: int,
        first_queue: int,
        queued: int,
        temperature: float,
    ) -> None:
        super().__init__()
        self.queues = ClassQueues([first_queue] + [queue] * (num_classes - 1), dimension)
        self.num_classes, self.anchors, self.confidence = num_classes, anchors, confidence
        self.negatives, self.pool, self.queued, self.temperature = negatives, pool, queued, temperature
        self.low_rank, self.high_rank = low_rank, high_rank

    def forward(self, cells: Cells, step: Step) -> Tensor:
        """Mean over the classes that occur of the mean over their anchors; a class without negatives counts with 0."""
        noise = self._noise(cells, step)
        with torch.no_grad():
            group = cells.label.where(cells.reliable, NO_CLASS)
            centre, count = class_means(cells.teacher.flatten(0, 1), group.flatten(), num_classes=self.num_classes)
            self._remember(cells, noise)
            prob = cells.logits.softmax(dim=1).gather(1, cells.label.clamp(min=0).unsqueeze(1)).squeeze(1)
            sure = group.where(prob > self.confidence, NO_CLASS)
            anchors = choose_anchors(sure.flatten(), noise.flatten(), num_classes=self.num_classes, quota=self.anchors)
            share = self._share(anchors, count)
            drawn = slot_noise(
                step.seed, step.index, 0, self.num_classes, self.pool, stream="unreliable pool", device=noise.device
            )
            pool, pick = self.queues.draw(drawn), spread(anchors.noise, self.negatives) % self.pool
        rows = cells.student.flatten(0, 1).index_select(0, anchors.position.flatten())
        anchor = rows.view(*anchors.position.shape, -1)
        return negative_contrast(anchor, centre, pool, pick, share, temperature=self.temperature)

    def _noise(self, cells: Cells, step: Step) -> Tensor:
        """(B, P) random numbers that belong to the cells."""
        pixels, device = cells.label.shape[1], cells.label.device
        sets = (step.labeled_slot, cells.labeled), (step.unlabeled_slot, len(cells.label) - cells.labeled)
        return torch.cat(
            [
                slot_noise(step.seed, step.index, slot, images, pixels, stream=f"unreliable {number}", device=device)
                for number, (slot, images) in enumerate(sets)
            ]
        )

    def _remember(self, cells: Cells, noise: Tensor) -> None:
        """Puts some of the new negatives of every class into its queue."""
        cut = cells.labeled
        classes = torch.arange(self.num_classes, device=noise.device)[:, None]
        label = cells.label[:cut].unsqueeze(1)
        of_labeled = likeliest_classes(cells.logits[:cut], self.low_rank) & (label >= 0) & (label != classes)
        unsure = cells.unreliable[cut:].unsqueeze(1)
        of_unlabeled = unlikely_classes(cells.logits[cut:], self.low_rank, self.high_rank) & unsure
        for part, candidate in ((slice(None, cut), of_labeled), (slice(cut, None), of_unlabeled)):
            chosen = choose_negatives(candidate, noise[part], quota=self.queued)
            teacher = cells.teacher[part]
            first = torch.arange(len(teacher), device=noise.device)[:, None, None] * teacher.shape[1]
            rows = teacher.flatten(0, 1).index_select(0, (chosen.position + first).flatten())
            self.queues.push(rows.view(*chosen.position.shape, -1), chosen.used)

    def _share(self, anchors: Chosen, count: Tensor) -> Tensor:
        """(C, Q) weight of each anchor of this process in the mean over classes of means over anchors."""
        used = anchors.used & (self.queues.filled > 0)[:, None]
        anchors_of_class = sum_over_ranks(used.sum(dim=1).float())
        classes = (count > 0).sum().clamp(min=1)
        return used * (world_size() / (anchors_of_class.clamp(min=1) * classes))[:, None]
