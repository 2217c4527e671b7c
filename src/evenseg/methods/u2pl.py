"""U2PL: sure pixels teach their label, unsure ones what they are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix
from evenseg.components.unreliable_contrast import NO_CLASS, Cells, UnreliableContrast
from evenseg.functional.cells import to_cells
from evenseg.functional.distributed import sum_over_ranks
from evenseg.functional.losses import entropy, weighted_cross_entropy
from evenseg.functional.percentiles import percentiles
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.networks.heads import RepresentationHead
from evenseg.networks.mode import eval_mode
from evenseg.planes import as_planes
from evenseg.types import (
    Batch,
    Count,
    Fraction,
    NetworkOutput,
    NonNegative,
    Positive,
    PseudoTarget,
    Size,
    Step,
    StepOutput,
    StepViews,
    ViewSpec,
    ignore_label,
)

HEAD = "representation"


class _Entropy(NamedTuple):
    """Of the teacher on the images that the student sees. value: (B, H, W). dropped, low, high: scalars: pixels above
    ``dropped`` teach no label, up to ``low`` they are trusted, from ``high`` on they are negatives."""

    value: Tensor
    dropped: Tensor
    low: Tensor
    high: Tensor


class U2PL(Method):
    """Drops the pixels of the highest entropy from the pseudo-labels, and contrasts with what they surely are not.

    Paper: Wang, Wang, Shen, Fei, Li, Jin, Wu, Zhao and Le, "Semi-Supervised Semantic Segmentation Using Unreliable
    Pseudo-Labels", CVPR 2022, https://arxiv.org/abs/2203.03884. Official code: https://github.com/Haochen-Wang409/U2PL
    (train_semi.py at commit 08a6d48, u2pl/utils/loss_helper.py at 05a8b1b).

    Deviations: negatives are those of the paper, while that code looks for them only among pixels whose own label is
    the class. Anchors are drawn without replacement. The anchors of a class pick their negatives from one draw of its
    queue (``pool``); a queue takes ``queued`` new ones of an image, drawn from all. Percentiles are those of all
    processes and reach the end in the last step. Each image is mixed with probability 0.5, not the batch; partners
    are neighbours. The head of the embedding has one 3x3 convolution and no dropout, and sits on the decoder's output.

    Args:
        ema_decay: decay of the teacher's weights, which starts as a copy of the student after the supervised steps.
        ema_warmup: at step k after that a decay of at most 1 - 1 / (k + 1).
        unsupervised_weight: of the cross-entropy with pseudo-labels.
        drop_percent: share of the pixels whose pseudo-labels are dropped at first, in percent; linearly less, none
            in the last step.
        contrast_weight: of the contrast.
        contrast_percent: share of the pixels, in percent, whose pseudo-labels are trusted in the contrast, and of those
            that are negatives, at first; both end at 0 like ``drop_percent``.
        anchors: pixels of each class and step that are contrasted, at most.
        anchor_confidence: the teacher's of the label, which an anchor has to exceed.
        negatives: of each anchor.
        pool: embeddings of a class' queue that its anchors pick their negatives from in a step.
        low_rank: classes that an unsure pixel may show: so many likeliest ones. A labeled pixel is a negative of
            those among them that it does not show.
        high_rank: an unsure pixel is a negative of the classes behind the first ``low_rank`` up to this rank.
        queue: negatives that are remembered of each class.
        first_queue: those of class 0, the background of VOC.
        queued: new negatives of each class and image in a step, at most.
        temperature: of the similarity.
        dimension: of the embeddings.
        mixer: how two images are mixed; default: CutMix of every other one.
        student_view: the view of which the student sees mixtures.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which cross-entropy with pseudo-labels and contrast then rise.
    """

    views = ViewSpec()

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.99,
        ema_warmup: bool = True,
        unsupervised_weight: NonNegative = 1.0,
        drop_percent: NonNegative = 20.0,
        contrast_weight: NonNegative = 1.0,
        contrast_percent: NonNegative = 20.0,
        anchors: Size = 256,
        anchor_confidence: Fraction = 0.3,
        negatives: Size = 50,
        pool: Size = 256,
        low_rank: Size = 3,
        high_rank: Size = 20,
        queue: Size = 30000,
        first_queue: Size = 50000,
        queued: Size = 64,
        temperature: Positive = 0.5,
        dimension: Size = 256,
        mixer: Mixer | None = None,
        student_view: Literal["weak", "strong"] = "weak",
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
    ) -> None:
        for name, value in (("drop_percent", drop_percent), ("contrast_percent", contrast_percent)):
            if value > 100:
                raise ValueError(f"{name}: {value} is more than all of the pixels; the paper has 20")
        if low_rank >= high_rank:
            raise ValueError(f"high_rank: {high_rank} is not above low_rank, {low_rank}; the paper has 20 and 3")
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=components,
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        network.add_head(HEAD, RepresentationHead(network.channels["decoder"], dimension), upsample=False)
        self.teacher: EMATeacher = EMATeacher(network, decay=ema_decay, warmup=ema_warmup, buffers="own", mode="train")
        self.contrast = UnreliableContrast(
            network.num_classes,
            dimension,
            anchors=anchors,
            confidence=anchor_confidence,
            negatives=negatives,
            pool=pool,
            low_rank=low_rank,
            high_rank=high_rank,
            queue=queue,
            first_queue=first_queue,
            queued=queued,
            temperature=temperature,
        )
        self.mixer = mixer or CutMix(probability=0.5)
        self.unsupervised_weight, self.drop_percent = unsupervised_weight, drop_percent
        self.contrast_weight, self.contrast_percent = contrast_weight, contrast_percent
        self.student_view = student_view
        self.views = ViewSpec(strong=1 if student_view == "strong" else 0)

    def ema_step(self, step_index: int) -> int:
        """Counts from the first step with unlabeled images, up to which the teacher is a copy."""
        return max(0, step_index - self.supervised_steps)

    @torch.no_grad()
    def pseudo_target(self, image: Tensor, step: Step) -> PseudoTarget:
        """As of every method; the teacher labels in evaluation mode."""
        with eval_mode(self.teacher.network):
            return super().pseudo_target(image, step)

    @torch.no_grad()
    def pseudo_labels(self, weak: Tensor, valid: Tensor, step: Step) -> PseudoTarget:
        """As of every method; entropies are those of the weak views, labeled in evaluation mode."""
        with eval_mode(self.teacher.network):
            output = self.teacher(weak)
        target = self.refine(PseudoTarget.from_logits(output.logits, valid), output, step)
        return self._kept(target, self._entropy(output, valid, step))

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """L_s + L_u + L_c: labels, pseudo-labels of low entropy, contrast with negatives."""
        unlabeled = batch.unlabeled
        if unlabeled is None:
            labeled, losses = self.supervised(batch)
            losses["supervised"] = losses["supervised"] + 0.0 * labeled.heads[HEAD].sum()  # which has a gradient always
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        with eval_mode(self.teacher.network):
            weak = self.teacher(unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        with torch.no_grad():
            seen = unlabeled.strong[0] if self.student_view == "strong" else unlabeled.weak
            image, mixed = self.mixer(seen, target, step, index=unlabeled.index)
            label = mixed.only_valid(mixed.hard()[1])
        images = torch.cat([batch.labeled.image, image])
        both: NetworkOutput = self.student(images)
        teacher = self.teacher(images)  # in train mode: its running statistics are those of such passes
        labeled, strong = both.split(len(batch.labeled.image))
        of_labeled, of_mixed = teacher.split(len(batch.labeled.image))
        losses = self.supervised_losses(labeled, batch.labeled.label)
        mixed = self.select(mixed, strong, step)
        unsure = self._entropy(of_mixed, mixed.valid, step)
        trusted = label.where(mixed.weight > 0, ignore_label(mixed.prob.shape[1]))
        mixed = self._kept(mixed, unsure)
        ramp = self.ramp(step)
        logits = self.adjusted(strong.logits, step)
        losses["unsupervised"] = ramp * self.unsupervised_weight * self._pseudo_label_loss(logits, mixed, label)
        cells = self._cells(both, teacher, batch.labeled.label, trusted, unsure)
        losses["negative_contrast"] = ramp * self.contrast_weight * self.contrast(cells, step)
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, mixed, image, labeled_teacher=of_labeled)
        log = {
            "entropy": unsure.value.mean(),
            "weight": mixed.weight.mean(),
            "queued_negatives": self.contrast.queues.filled.float(),
        }
        return self.finish(losses, log, views, step)

    @torch.no_grad()
    def _entropy(self, output: NetworkOutput, valid: Tensor | None, step: Step) -> _Entropy:
        """Entropies of the teacher with the percentiles of this step."""
        left = 1 - step.index / max(step.total - 1, 1)  # 0 in the last step
        value = entropy(as_planes(output.logits).softmax(dim=1)).clamp(min=0)
        everywhere = torch.ones_like(value, dtype=torch.bool) if valid is None else valid
        drop, contrast = left * self.drop_percent, left * self.contrast_percent
        limits = percentiles(value, everywhere, (100 - drop, contrast, 100 - contrast), ("down", "down", "up"))
        return _Entropy(value, *limits.unbind())

    @staticmethod
    def _kept(target: PseudoTarget, unsure: _Entropy) -> PseudoTarget:
        """Weight 0 where the entropy is among the highest."""
        return target._replace(weight=target.weight * (unsure.value <= unsure.dropped))

    @staticmethod
    def _pseudo_label_loss(logits: Tensor, mixed: PseudoTarget, label: Tensor) -> Tensor:
        """Weighted mean over the kept pixels, times the number of valid ones over that of kept ones."""
        ignore = ignore_label(mixed.prob.shape[1])
        valid = label != ignore
        valid_pixels, kept = sum_over_ranks(torch.stack([valid.sum(), (valid & (mixed.weight > 0)).sum()]).float())
        mean = weighted_cross_entropy(logits, label, mixed.weight, ignore_index=ignore, normalize="batch")
        return mean * (valid_pixels / kept.clamp(min=1))

    @torch.no_grad()
    def _cells(
        self, student: NetworkOutput, teacher: NetworkOutput, label: Tensor, pseudo_label: Tensor, unsure: _Entropy
    ) -> Cells:
        """What the contrast looks at, at the resolution of the embeddings; labels are those of the nearest pixel."""
        embedding, ignore = student.heads[HEAD], ignore_label(student.logits.shape[1])
        coarse = teacher.coarse["class"]
        height, width = embedding.shape[-2:]
        padded = self.student.padded_size(label.shape[1], label.shape[2])
        grid = (coarse.shape[2], coarse.shape[3])

        def shrink(pixels: Tensor, outside: float) -> Tensor:
            return to_cells(pixels, grid, padded, outside=outside)[..., :height, :width].flatten(-2)

        labels = shrink(torch.cat([label, pseudo_label]), ignore)
        labels = labels.where(labels != ignore, NO_CLASS)
        value = shrink(unsure.value, 0.0)
        unlabeled = labels[len(label) :] >= 0
        of_labels = labels[: len(label)] >= 0
        low, high = unlabeled & (value <= unsure.low), unlabeled & (value >= unsure.high)
        with torch.enable_grad():
            own = embedding.permute(0, 2, 3, 1).flatten(1, 2).contiguous()  # as it is where it is channels_last
        return Cells(
            own,
            teacher.heads[HEAD].permute(0, 2, 3, 1).flatten(1, 2).contiguous(),
            coarse[..., :height, :width].float().flatten(2),
            labels,
            torch.cat([of_labels, low]),
            torch.cat([torch.zeros_like(of_labels), high]),
            len(label),
        )
