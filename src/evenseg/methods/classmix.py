"""ClassMix: the student learns on images into which half of the classes of another one are pasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import ClassMix as PasteClasses
from evenseg.components.threshold import Threshold, Weighting
from evenseg.functional.losses import weighted_cross_entropy
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.types import (
    Batch,
    Count,
    Fraction,
    NonNegative,
    PseudoTarget,
    Step,
    StepOutput,
    StepViews,
    ViewSpec,
    ignore_label,
)


class ClassMix(Method):
    """Mixes by the outlines that the teacher predicts, and teaches the labels that the teacher gave before mixing.

    Paper: Olsson, Tranheden, Pinto and Svensson, "ClassMix: Segmentation-Based Data Augmentation for Semi-Supervised
    Learning", WACV 2021, https://arxiv.org/abs/2007.07936. Official code: https://github.com/WilhelmT/ClassMix
    (trainSSL.py, commit f39df9a).

    Deviations: partners are neighbours in the batch, as everywhere here, not the next image of a cycle (with two
    images that is the same); colours are changed before mixing and for each image, not after it and alike for the
    batch; pixels beyond the images count neither in the share of confident ones nor in the mean; and the teacher is
    the headline, the student, which that code scores, stands beside it. ``preset: voc`` leaves the colours as they
    are, as that code does there.

    Args:
        ema_decay: decay of the teacher's weights.
        ema_warmup: at step k (from 0) a decay of at most 1 - 1 / (k + 1): the average of all students so far.
        threshold: confidence that counts as sure.
        weighting: what a pixel weighs: the ``fraction`` of sure pixels of the batch, one number for all; ``pixel``: 1
            where it is sure, else 0; its ``confidence``; ``none``: 1, to which ``ramp_steps`` belongs.
        unsupervised_weight: weight of the unlabeled loss.
        mixer: how two images are mixed; default: half of the classes of one onto the other.
        student_view: the view of which the student sees mixtures; the teacher sees the weak one.
        teacher_mode: ``train`` normalises the teacher by its own batch statistics, ``eval`` by running ones.
        teacher_buffers: where the teacher's running statistics come from: its ``own`` passes, an average (``ema``)
            or a ``copy`` of the student's.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec(strong=1)
    strong_apart = True
    presets = {"voc": {"student_view": "weak"}}  # noqa: RUF012

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.99,
        ema_warmup: bool = True,
        threshold: Fraction = 0.968,
        weighting: Weighting = "fraction",
        unsupervised_weight: NonNegative = 1.0,
        mixer: Mixer | None = None,
        student_view: Literal["strong", "weak"] = "strong",
        teacher_mode: Literal["train", "eval"] = "train",
        teacher_buffers: Literal["own", "ema", "copy"] = "own",
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
    ) -> None:
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=components,
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        self.teacher: EMATeacher = EMATeacher(
            network, decay=ema_decay, warmup=ema_warmup, buffers=teacher_buffers, mode=teacher_mode
        )
        self.mixer = mixer or PasteClasses()
        self.weighting = Threshold(threshold, weighting=weighting)
        self.unsupervised_weight = unsupervised_weight
        self.student_view = student_view
        self.views = ViewSpec(strong=1 if student_view == "strong" else 0)

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """By the teacher's confidence, as ``weighting`` says."""
        return self.weighting.weigh(target, confidence)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Supervised loss + weight * r * cross-entropy on the mixtures; r is the share of sure pixels."""
        labeled, losses = self.supervised(batch)
        unlabeled = batch.unlabeled
        if unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        weak = self.teacher(unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        seen = unlabeled.strong[0] if self.student_view == "strong" else unlabeled.weak
        with torch.no_grad():
            image, mixed = self.mixer(seen, target, step, index=unlabeled.index)  # Algorithm 1
            confidence, label = mixed.hard()
            mixed = self.weigh(mixed, confidence)
        strong = self.student(image, strong=True)
        mixed = self.select(mixed, strong, step)
        unsupervised = weighted_cross_entropy(
            self.adjusted(strong.logits, step),
            mixed.only_valid(label),
            mixed.weight,
            ignore_index=ignore_label(mixed.prob.shape[1]),
            normalize="valid",
        )
        losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * unsupervised
        log = {"confidence": confidence.mean(), "weight": mixed.weight.mean()}
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, mixed, image)
        return self.finish(losses, log, views, step)
