"""CutMix-Seg: consistency under masked mixing of images and of the teacher's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix
from evenseg.components.threshold import Threshold, Weighting
from evenseg.functional.losses import squared_difference, weighted_cross_entropy
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


class CutMixSeg(Method):
    """The student sees a mixture of two images and is to predict the mixture of the teacher's maps.

    Paper: French, Laine, Aila, Mackiewicz and Finlayson, "Semi-supervised semantic segmentation needs
    strong, varied perturbations", BMVC 2020, https://arxiv.org/abs/1906.01916. Official code:
    https://github.com/Britefury/cutmix-semisup-seg (train_seg_semisup_mask_mt.py).

    Deviations: mixing partners are neighbours in one batch, not two batches, so that each image is
    mixed once per step; pixels outside the images count neither in the share of confident pixels nor
    in the mean; and by default the student sees changed colours, the teacher normalises with running
    statistics, and its decay warms up. ``preset: official`` selects what that code does by default:
    squared difference summed over classes, one confidence for the whole batch, unchanged colours, a
    constant decay, and a teacher in train mode whose running statistics are averaged like its
    weights. (Its DeepLab runs also freeze batch normalisation: ``network.norm: frozen``.) ``loss:
    cross_entropy`` with ``weighting: pixel`` is the modern variant that AEL and DeS4 build on.

    Args:
        ema_decay: decay of the teacher's weights.
        ema_warmup: at step k (from 0) a decay of at most 1 - 1 / (k + 1): the average of all students so far.
        loss: ``mse`` (squared difference, summed over classes) or ``cross_entropy`` against the label.
        weighting: how the teacher's confidence weighs a pixel: the ``fraction`` of pixels of the batch
            that reach the threshold, one number for all; ``pixel``: 1 or 0; its ``confidence``; ``none``.
        threshold: confidence threshold of ``fraction`` and ``pixel``.
        unsupervised_weight: weight of the unlabeled loss.
        mixer: how two images are mixed: cutmix, classmix or none.
        student_view: the view of which the student sees mixtures; the teacher sees the weak one.
        teacher_mode: ``eval`` normalises the teacher by running statistics, ``train`` by its batch.
        teacher_buffers: where its running statistics come from: ``ema``, ``copy`` of the student's, ``own``.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec(strong=1)
    strong_apart = True
    presets = {  # noqa: RUF012
        "official": {
            "ema_decay": 0.99,
            "ema_warmup": False,
            "loss": "mse",
            "weighting": "fraction",
            "threshold": 0.97,
            "mixer": {"name": "cutmix", "area": 0.5},
            "student_view": "weak",
            "teacher_mode": "train",
            "teacher_buffers": "ema",
        }
    }

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.99,
        ema_warmup: bool = True,
        loss: Literal["mse", "cross_entropy"] = "mse",
        weighting: Weighting = "fraction",
        threshold: Fraction = 0.97,
        unsupervised_weight: NonNegative = 1.0,
        mixer: Mixer | None = None,
        student_view: Literal["strong", "weak"] = "strong",
        teacher_mode: Literal["eval", "train"] = "eval",
        teacher_buffers: Literal["ema", "copy", "own"] = "ema",
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
        self.mixer = mixer or CutMix()
        self.weighting = Threshold(threshold, weighting=weighting)
        self.loss = loss
        self.unsupervised_weight = unsupervised_weight
        self.student_view = student_view
        self.views = ViewSpec(strong=1 if student_view == "strong" else 0)

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """By the teacher's confidence, as ``weighting`` says."""
        return self.weighting.weigh(target, confidence)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Supervised loss + weight * consistency on mixed images."""
        labeled, losses = self.supervised(batch)
        if batch.unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        weak = self.teacher(batch.unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, batch.unlabeled.valid), weak, step)
        seen = batch.unlabeled.strong[0] if self.student_view == "strong" else batch.unlabeled.weak
        with torch.no_grad():
            image, mixed = self.mixer(seen, target, step, index=batch.unlabeled.index)
            confidence, label = mixed.hard()
            mixed = self.weigh(mixed, confidence)
        strong = self.student(image, strong=True)
        mixed = self.select(mixed, strong, step)
        if self.loss == "mse":
            unsupervised = squared_difference(
                strong.logits, mixed.prob, mixed.weight, valid=mixed.valid, class_reduction="sum"
            )
        else:
            ignore = ignore_label(mixed.prob.shape[1])
            unsupervised = weighted_cross_entropy(
                self.adjusted(strong.logits, step),
                mixed.only_valid(label),
                mixed.weight,
                ignore_index=ignore,
                normalize="valid",
            )
        losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * unsupervised
        log = {"confidence": confidence.mean(), "weight": mixed.weight.mean()}
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, mixed, image)
        return self.finish(losses, log, views, step)
