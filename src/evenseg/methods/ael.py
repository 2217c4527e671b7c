"""AEL: a bank of how well every class is doing steers what is mixed, pasted, sampled and weighed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.adaptive_cutmix import AdaptiveCutMix
from evenseg.components.adaptive_equalization import DynamicReweighting, EqualizationSampling
from evenseg.components.base import Component
from evenseg.components.confidence_bank import ConfidenceBank
from evenseg.components.copy_paste import AdaptiveCopyPaste
from evenseg.components.mixers import CutMix
from evenseg.components.threshold import Threshold
from evenseg.functional.class_statistics import Indicator
from evenseg.functional.losses import PixelNormalizer, weighted_cross_entropy
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.types import (
    Batch,
    Count,
    DataFacts,
    Fraction,
    LabeledBatch,
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

Part = Literal["DR", "AES", "ACM", "ACP"]
LABELED = 1 << 33  # added to the slot of a labeled image in the keys of its own pseudo-label's draws


class AEL(Method):
    """Pseudo-labels of mixed images, in which classes that do badly are seen more, kept more and weigh more.

    Paper: Hu, Wei, Hu, Ye, Cui and Wang, "Semi-Supervised Semantic Segmentation via Adaptive Equalization
    Learning", NeurIPS 2021, https://arxiv.org/abs/2110.05474. Official code:
    https://github.com/hzhupku/SemiSeg-AEL at 747c797.

    Deviations: what the paper leaves open (classes absent from a batch, the start of the bank, beta, the mode of the
    teacher) is decided as docs/methods/ael.md says, with the official code's readings under ``preset: official``;
    partners of adaptive CutMix are drawn some steps ahead of their use; the bank a step uses is that of the step
    before, as in the paper, where the code has updated it already.

    Args:
        data: what is to be known of the data, handed in by the framework.
        parts: which of the four mechanisms: dynamic re-weighting (DR), adaptive equalization sampling (AES),
            adaptive CutMix (ACM; without it CutMix of random boxes), adaptive Copy-Paste (ACP). Table 3.
        indicator: what the bank holds: ``confidence``, ``margin`` or ``entropy``. Table 6.
        momentum: of the bank (tau, Eq. 7).
        reduction: the bank's mean over ``pixel``s or (Eq. 4 as printed) over ``image``s.
        absent: what a class without a pixel in the batch adds to the bank: ``skip`` (nothing) or ``zero``.
        bank_init: start of the bank: ``debias`` or ``random``.
        temperature: of the softmax that classes are drawn from (Eq. 9).
        gamma: power of the confidence in DR (Eq. 13). Table 5.
        beta: power of the sampling rate in AES (Eq. 10).
        class_map: by whose prediction AES tells classes: ``student`` or ``teacher``.
        area_ratio: share of the image that a region in ACM has to exceed. Table 7.
        presence_ratio: share of the image that makes a class count as shown; default ``area_ratio``.
        paste_classes: classes pasted into an image (K in ACP). Table 8.
        paste_probability: share of the labeled images that are pasted into.
        paste_scale: large-scale jitter of what is pasted.
        paste_power: of the scores that pasted classes are drawn by.
        paste_excluded: names of classes that are never pasted.
        paste_replacement: draw pasted classes with replacement.
        paste_source: ``uniform``: any labeled image; ``containing``: one that shows the first class drawn.
        unsupervised_weight: alpha in Eq. 3. Table 9.
        normalize: the weights of an ``image`` are divided by their sum (Eq. 12), or those of the ``batch``;
            ``valid``: by the number of pixels.
        threshold: confidence below which a pixel teaches nothing; the paper has none.
        labeled_consistency: the unsupervised term on the labeled images as well.
        student_view: the view of which the student sees mixtures; the teacher sees the weak one.
        ema_decay: decay of the teacher, at step k (from 0) at most 1 - 1 / (k + 1).
        teacher_mode: ``eval`` normalises the teacher by running statistics, ``train`` by its batch.
        teacher_buffers: where its running statistics come from: ``copy`` of the student's, ``ema``, ``own``.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: further pieces, after AEL's own.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec()
    strong_apart = True
    own_components = (ConfidenceBank, DynamicReweighting, EqualizationSampling, AdaptiveCopyPaste)
    presets = {  # noqa: RUF012
        "official": {
            "absent": "zero",
            "bank_init": "random",
            "presence_ratio": 0.01,
            "paste_power": 0.5,
            "paste_replacement": True,
            "normalize": "batch",
            "labeled_consistency": True,
            "teacher_mode": "train",
            "teacher_buffers": "own",
            "supervised_loss": {"name": "ohem", "threshold": 0.7, "min_kept": 100_000},
        }
    }

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        data: DataFacts,
        parts: Sequence[Part] = ("DR", "AES", "ACM", "ACP"),
        indicator: Indicator = "confidence",
        momentum: Fraction = 0.999,
        reduction: Literal["pixel", "image"] = "pixel",
        absent: Literal["skip", "zero"] = "skip",
        bank_init: Literal["debias", "random"] = "debias",
        temperature: Positive = 1.0,
        gamma: NonNegative = 2.0,
        beta: NonNegative = 1.0,
        class_map: Literal["student", "teacher"] = "student",
        area_ratio: Fraction = 0.005,
        presence_ratio: Fraction | None = None,
        paste_classes: Size = 3,
        paste_probability: Fraction = 0.5,
        paste_scale: tuple[Positive, Positive] = (0.1, 2.0),
        paste_power: Positive = 1.0,
        paste_excluded: Sequence[str] = (),
        paste_replacement: bool = False,
        paste_source: Literal["uniform", "containing"] = "uniform",
        unsupervised_weight: NonNegative = 1.0,
        normalize: PixelNormalizer = "image",
        threshold: Fraction = 0.0,
        labeled_consistency: bool = False,
        student_view: Literal["weak", "strong"] = "weak",
        ema_decay: Fraction = 0.99,
        teacher_mode: Literal["eval", "train"] = "eval",
        teacher_buffers: Literal["copy", "ema", "own"] = "copy",
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
    ) -> None:
        bank = ConfidenceBank(
            indicator=indicator,
            momentum=momentum,
            reduction=reduction,
            absent=absent,
            init=bank_init,
            class_frequency=data.class_frequency,
        )
        made: dict[Part, Component] = {}
        if "DR" in parts:
            made["DR"] = DynamicReweighting(gamma=gamma)
        if "AES" in parts:
            made["AES"] = EqualizationSampling(
                beta=beta, class_map=class_map, bank=bank, class_frequency=data.class_frequency
            )
        if "ACP" in parts:
            made["ACP"] = AdaptiveCopyPaste(
                classes=paste_classes,
                probability=paste_probability,
                scale=paste_scale,
                temperature=temperature,
                power=paste_power,
                excluded=paste_excluded,
                replacement=paste_replacement,
                source=paste_source,
                bank=bank,
                data=data,
            )
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=[bank, *made.values(), *components],
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        self.teacher: EMATeacher = EMATeacher(network, decay=ema_decay, buffers=teacher_buffers, mode=teacher_mode)
        self.mixer = (
            AdaptiveCutMix(
                area_ratio=area_ratio, presence_ratio=presence_ratio, temperature=temperature, bank=bank, data=data
            )
            if "ACM" in parts
            else CutMix()
        )
        self.threshold = Threshold(threshold, weighting="pixel" if threshold > 0 else "none")
        self.unsupervised_weight = unsupervised_weight
        self.normalize: PixelNormalizer = normalize
        self.labeled_consistency = labeled_consistency
        self.student_view = student_view
        self.views = ViewSpec(strong=1 if student_view == "strong" else 0)

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """1 where the threshold is reached, else 0; without one always 1."""
        return self.threshold.weigh(target, confidence)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """L_s + alpha L_u (Eq. 3). Copy-Paste has changed the labeled images already."""
        labeled, losses = self.supervised(batch)  # Eq. 1
        if batch.unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        weak = self.teacher(batch.unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, batch.unlabeled.valid), weak, step)  # Eq. 13
        seen = batch.unlabeled.strong[0] if self.student_view == "strong" else batch.unlabeled.weak
        with torch.no_grad():
            image, mixed = self.mixer(seen, target, step, index=batch.unlabeled.index)
            confidence, label = mixed.hard()
            mixed = self.weigh(mixed, confidence)
        strong = self.student(image, strong=True)
        mixed = self.select(mixed, strong, step)  # Eq. 10
        unsupervised = self._equalized(self.adjusted(strong.logits, step), mixed, label)
        if self.labeled_consistency:
            unsupervised = unsupervised + self._on_labeled(batch.labeled, labeled, step)
        losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * unsupervised
        log = {"confidence": confidence.mean(), "weight": mixed.weight.mean()}
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, mixed, image)
        return self.finish(losses, log, views, step)

    def _equalized(self, logits: Tensor, target: PseudoTarget, label: Tensor) -> Tensor:
        """Cross-entropy against the pseudo-labels, by weight (Eq. 12)."""
        ignore = ignore_label(target.prob.shape[1])
        return weighted_cross_entropy(
            logits, target.only_valid(label), target.weight, ignore_index=ignore, normalize=self.normalize
        )

    def _on_labeled(self, batch: LabeledBatch, labeled: NetworkOutput, step: Step) -> Tensor:
        """The same term on the labeled images, where the label is ignored too."""
        step = step._replace(unlabeled_slot=LABELED + step.labeled_slot)
        output = self.teacher(batch.image)
        everywhere = torch.ones_like(batch.label, dtype=torch.bool)
        target = self.weigh(self.refine(PseudoTarget.from_logits(output.logits, everywhere), output, step))
        selected = self.select(target, labeled, step)
        return self._equalized(self.adjusted(labeled.logits, step), selected, target.label)
