"""Mean Teacher: the student agrees with an average of its own past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from evenseg.components.base import Component
from evenseg.functional.losses import squared_difference
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.types import Batch, Count, Fraction, NonNegative, PseudoTarget, Step, StepOutput, StepViews, ViewSpec


class MeanTeacher(Method):
    """Soft consistency between the student and its exponential moving average.

    Paper: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017,
    https://arxiv.org/abs/1703.01780. Official segmentation code read for the settings:
    https://github.com/charlesCXK/TorchSemiSeg (exp.voc, MeanTeacher).

    Deviations: by default the consistency is taken on unlabeled images only, and the decay warms up;
    ``preset: official`` takes it on the labeled ones too, as that code does, which costs a further
    teacher pass, and keeps the decay constant. With either, the teacher moves after the step, and
    pixels outside the images do not count.

    Args:
        ema_decay: decay of the teacher's weights.
        ema_warmup: at step k (from 0) a decay of at most 1 - 1 / (k + 1): the average of all students so far.
        unsupervised_weight: weight of the consistency; the large value makes up for the mean over classes.
        student_view: the view the student sees of an unlabeled image; the teacher sees the weak one.
        labeled_consistency: consistency on the labeled images too.
        teacher_mode: ``train`` normalises the teacher by its own batch statistics, ``eval`` by running ones.
        teacher_buffers: where the teacher's running statistics come from: its ``own`` passes,
            an average (``ema``) or a ``copy`` of the student's.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the consistency then rises (sigmoid ramp-up).
    """

    views = ViewSpec()
    strong_apart = True
    presets = {"official": {"labeled_consistency": True, "ema_warmup": False}}  # noqa: RUF012

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.99,
        ema_warmup: bool = True,
        unsupervised_weight: NonNegative = 100.0,
        student_view: Literal["weak", "strong"] = "weak",
        labeled_consistency: bool = False,
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
        self.unsupervised_weight = unsupervised_weight
        self.student_view = student_view
        self.labeled_consistency = labeled_consistency
        self.views = ViewSpec(strong=1 if student_view == "strong" else 0)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Supervised loss + weight * mean over pixels and classes of (P_student - P_teacher)^2."""
        labeled, losses = self.supervised(batch)
        if batch.unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        weak = self.teacher(batch.unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, batch.unlabeled.valid), weak, step)
        seen = batch.unlabeled.strong[0] if self.student_view == "strong" else batch.unlabeled.weak
        student = self.student(seen, strong=self.student_view == "strong")
        target = self.select(target, student, step)
        logits, compared = student.logits, target
        if self.labeled_consistency:
            everywhere = torch.ones_like(batch.labeled.label, dtype=torch.bool)
            teacher = PseudoTarget.from_logits(self.teacher(batch.labeled.image).logits, everywhere)
            logits = torch.cat([logits, labeled.logits])
            compared = PseudoTarget(
                torch.cat([target.prob, teacher.prob]),
                torch.cat([target.weight, teacher.weight]),
                torch.cat([batch.unlabeled.valid, everywhere]),
            )
        consistency = squared_difference(logits, compared.prob, compared.weight, valid=compared.valid)
        losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * consistency
        views = StepViews(batch.labeled.label, labeled, weak, target, student, target, seen)
        return self.finish(losses, {"consistency": consistency}, views, step)
