"""Context-aware consistency: what two overlapping windows show alike is to be embedded alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.functional.contrast import LOWEST_TEMPERATURE
from evenseg.functional.directional_contrast import directional_contrast
from evenseg.functional.distributed import concatenate_over_ranks
from evenseg.functional.random import slot_noise, slot_uniform
from evenseg.functional.windows import cell_means, cut, matches, window_offsets
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.mode import eval_mode
from evenseg.types import (
    Batch,
    Count,
    DataFacts,
    Fraction,
    NetworkOutput,
    NonNegative,
    Positive,
    PseudoTarget,
    Size,
    Step,
    StepOutput,
    StepViews,
    UnlabeledBatch,
    ViewSpec,
)

NO_CLASS = -1  # of a cell that is no negative


class _Window(NamedTuple):
    """One of two windows of every image. image: (B, 3, h, w). target: of its own output, refined. Of its P cells:
    embedding (B, D, rows, columns), unit length; confidence, label, (B, rows, columns); usable, the same, bool."""

    image: Tensor
    output: NetworkOutput
    target: PseudoTarget
    embedding: Tensor
    confidence: Tensor
    label: Tensor
    usable: Tensor


class CAC(Method):
    """Contrast between two windows of one image, in which the surer of two pixels teaches the other.

    Paper: Lai, Tian, Jiang, Liu, Zhao, Wang and Jia, "Semi-supervised Semantic Segmentation with Directional
    Context-aware Consistency", CVPR 2021, https://arxiv.org/abs/2106.14133. Official code:
    https://github.com/dvlab-research/Context-Aware-Consistency (commit a7cd9b4).

    Deviations: the windows are parts of the one crop that is loaded, and turned over together, not each for itself;
    pixels beyond the image take no part; and what an image contributes to the negatives does not depend on the
    number of processes. As there, windows are apart by whole cells. Presets: ``official`` (VOC), ``cityscapes``.

    Components see the first window as the student's and the second as the teacher's; their statistics are those of
    this direction. The term begins after ``supervised_steps``: set them, the paper waits for 5 of 80 epochs.

    Args:
        data: what is to be known of the data, handed in by the framework.
        unsupervised_weight: of the contrast.
        window: side of a window as a share of the crop's, rounded down to what the network takes.
        stride: side of the cells that are compared, in pixels; where it does not divide the sides that the network
            takes, these.
        student_view: the views that the windows are cut from: two ``strong`` ones, or twice the ``weak`` one.
        temperature: of the similarity, tau in the paper.
        threshold: confidence that a cell has to exceed to teach.
        negatives: cells of each image and window that are kept as negatives.
        negative_steps: steps whose cells are negatives, the present one included.
        dimension: of the embeddings.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the contrast then rises.
    """

    views = ViewSpec(strong=2)
    strong_apart = True
    presets = {  # noqa: RUF012
        "official": {"negatives": 1600, "negative_steps": 2},
        "cityscapes": {"negatives": 8100, "negative_steps": 1},
    }
    negative: Tensor
    negative_class: Tensor

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        data: DataFacts,
        unsupervised_weight: NonNegative = 0.1,
        window: Fraction = 0.75,
        stride: Size = 8,
        student_view: Literal["strong", "weak"] = "strong",
        temperature: Positive = 0.1,
        threshold: Fraction = 0.75,
        negatives: Size = 1600,
        negative_steps: Size = 2,
        dimension: Size = 128,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
    ) -> None:
        if temperature < LOWEST_TEMPERATURE:
            raise ValueError(f"temperature: {temperature} is below {LOWEST_TEMPERATURE}; the paper has 0.1")
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=components,
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        channels = network.channels["decoder"]
        self.projection = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, dimension, kernel_size=1),
        )
        self.unsupervised_weight, self.window, self.student_view = unsupervised_weight, window, student_view
        self.cell = stride if network.multiple % stride == 0 else network.multiple
        self.temperature, self.threshold = temperature, threshold
        self.negatives, self.negative_steps = negatives, negative_steps
        # a ring over steps: by step, slot of the image, and cell, those of the second window behind those of the first
        shape = negative_steps, data.unlabeled_batch, 2 * negatives
        self.register_buffer("negative", torch.zeros(*shape, dimension))
        self.register_buffer("negative_class", torch.full(shape, NO_CLASS))
        self.views = ViewSpec(strong=2 if student_view == "strong" else 0)

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """Weight 0 where the confidence does not exceed the threshold."""
        sure = (target.confidence if confidence is None else confidence) > self.threshold
        return target._replace(weight=target.weight * sure)

    def on_step_end(self, step: Step) -> None:
        """The next step's place among the negatives is emptied."""
        super().on_step_end(step)
        with torch.no_grad():
            self.negative_class[(step.index + 1) % self.negative_steps].fill_(NO_CLASS)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """L_sup + weight * (contrast of the first window with the second + that of the second with the first)."""
        labeled, losses = self.supervised(batch)
        views = StepViews(batch.labeled.label, labeled)
        if batch.unlabeled is None:
            losses["supervised"] = losses["supervised"] + self._idle()
            return self.finish(losses, {}, views, step)
        size = self._size(*batch.unlabeled.weak.shape[-2:])
        offsets = self._offsets(batch.unlabeled.weak, size, step)
        second = self._look(batch.unlabeled, -1, offsets[1], size, step)
        with eval_mode(self.components):
            first = self._look(batch.unlabeled, 0, offsets[0], size, step)
        key, key_class = self._remember((first, second), step)
        offsets = offsets.to(key.device, non_blocking=True)
        to_first, mixed = self._pull(first, second, offsets, key, key_class, step)
        with eval_mode(self.components):
            to_second, _ = self._pull(second, first, offsets.flip(0), key, key_class, step)
        losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * (to_first + to_second)
        weak = second.output.detach()
        views = views._replace(weak=weak, target=second.target, strong=first.output, mixed=mixed, image=first.image)
        log = {"confidence": first.confidence.mean(), "weight": mixed.weight.mean()}
        return self.finish(losses, log, views, step)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the windows of a view, in pixels."""
        multiple = self.student.multiple
        rows, columns = (
            max(int(self.window * side) // multiple * multiple, min(side, multiple)) for side in (height, width)
        )
        return rows, columns

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of cells in a window."""
        return max(size[0] // self.cell, 1), max(size[1] // self.cell, 1)

    def _offsets(self, image: Tensor, size: tuple[int, int], step: Step) -> Tensor:
        """(2, B, 2) int64 on the CPU: where the windows lie, in cells; they share at least half of each side."""
        height, width = image.shape[-2:]
        grid = self._grid(size)
        free = (height - size[0]) // self.cell, (width - size[1]) // self.cell
        uniform = slot_uniform(step.seed, step.index, step.unlabeled_slot, len(image), 6, stream="cac windows")
        return window_offsets(uniform, free, (grid[0] // 2, grid[1] // 2))

    def _look(self, unlabeled: UnlabeledBatch, view: int, offset: Tensor, size: tuple[int, int], step: Step) -> _Window:
        """The student on one window of every image."""
        pixels = self.cell * offset
        image = cut(unlabeled.strong[view] if unlabeled.strong else unlabeled.weak, pixels, size)
        valid = cut(unlabeled.valid, pixels, size)
        output: NetworkOutput = self.student(image, strong=bool(unlabeled.strong))
        weak = output.detach()
        target = self.refine(PseudoTarget.from_logits(weak.logits, valid), weak, step)
        if target.truth is not None:
            target = target._replace(truth=cut(target.truth, pixels, size))
        grid = self._grid(size)
        embedding = self.projection(cell_means(output.features["decoder"], grid))
        with torch.autocast(image.device.type, enabled=False):
            confidence, label = cell_means(weak.logits.float(), grid).softmax(dim=1).max(dim=1)
            inside, weight = cell_means(torch.stack([valid.float(), target.weight], dim=1), grid).unbind(dim=1)
        # a cell at the border of the image sees what is beyond
        usable = (inside >= 1) & (weight > 0)
        return _Window(image, output, target, F.normalize(embedding.float(), dim=1), confidence, label, usable)

    @torch.no_grad()
    def _remember(self, windows: Sequence[_Window], step: Step) -> tuple[Tensor, Tensor]:
        """Adds some cells of the windows of all processes to the negatives; all of these, (M, D) and (M,)."""
        rows, classes = [], []
        for number, window in enumerate(windows):
            label = window.label.where(window.usable, NO_CLASS).flatten(1)
            noise = slot_noise(
                step.seed,
                step.index,
                step.unlabeled_slot,
                *label.shape,
                stream=f"cac negatives {number}",
                device=label.device,
            )
            count = min(self.negatives, label.shape[1])
            chosen = noise.masked_fill(label == NO_CLASS, 1 << 31).topk(count, dim=1, largest=False).indices
            embedding = window.embedding.flatten(2).transpose(1, 2)
            taken = embedding.gather(1, chosen[:, :, None].expand(-1, -1, embedding.shape[2]))
            missing = self.negatives - count  # where a window has fewer cells
            rows.append(F.pad(taken, (0, 0, 0, missing)))
            classes.append(F.pad(label.gather(1, chosen), (0, missing), value=NO_CLASS))
        entry = step.index % self.negative_steps
        slot = torch.arange(step.unlabeled_slot, step.unlabeled_slot + len(rows[0]), device=rows[0].device)
        slot = concatenate_over_ranks(slot)
        self.negative[entry].index_copy_(0, slot, concatenate_over_ranks(torch.cat(rows, dim=1)))
        self.negative_class[entry].index_copy_(0, slot, concatenate_over_ranks(torch.cat(classes, dim=1)))
        return self.negative.flatten(0, 2), self.negative_class.flatten()

    def _pull(
        self, own: _Window, other: _Window, offsets: Tensor, key: Tensor, key_class: Tensor, step: Step
    ) -> tuple[Tensor, PseudoTarget]:
        """The contrast that moves one window's embeddings, and the other's target in this one's place.

        ``offsets``: of this window and of the other, in cells.
        """
        grid = self._grid((own.image.shape[-2], own.image.shape[-1]))
        taught = self._aligned(other.target, self.cell * offsets, own.image)
        taught = self.select(taught, own.output, step)
        same = matches(offsets[0], offsets[1], grid)
        surer = same(other.confidence)
        chosen = same.inside.view_as(surer) & own.usable & same(other.usable)
        chosen = chosen & (surer > self.threshold) & (own.confidence < surer)
        loss = directional_contrast(
            own.embedding.flatten(2).transpose(1, 2).flatten(0, 1),
            same(other.embedding).flatten(2).transpose(1, 2).flatten(0, 1),
            own.label.flatten(),
            chosen.flatten(),
            cell_means(taught.weight.unsqueeze(1), grid).flatten(),
            key,
            key_class,
            temperature=self.temperature,
        )
        return loss, self.weigh(taught)

    @staticmethod
    def _aligned(target: PseudoTarget, offsets: Tensor, image: Tensor) -> PseudoTarget:
        """The other window's target at the pixels of this one; without weight and not valid outside of it."""
        same = matches(offsets[0], offsets[1], (image.shape[-2], image.shape[-1]))
        inside = same.inside.view_as(target.weight)
        valid = inside if target.valid is None else inside & same(target.valid)
        truth = None if target.truth is None else same(target.truth)
        maps = {name: same(value) for name, value in target.maps.items()}
        return PseudoTarget(same(target.prob), same(target.weight) * valid, valid, truth, maps)

    def _idle(self) -> Tensor:
        """A zero by which the projection has a gradient."""
        return 0.0 * torch.stack([parameter.sum() for parameter in self.projection.parameters()]).sum()
