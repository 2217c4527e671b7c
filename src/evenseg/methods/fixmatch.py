"""FixMatch for segmentation: one network, from the weak to the strong view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix
from evenseg.components.threshold import Threshold
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


class FixMatch(Method):
    """Confident predictions on the weak view are the labels of the strong view.

    Paper: Sohn et al., "FixMatch", NeurIPS 2020, https://arxiv.org/abs/2001.07685, in the form for
    segmentation of Yang et al., "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic
    Segmentation" (UniMatch), CVPR 2023, https://arxiv.org/abs/2208.09910. Official code of the
    latter: https://github.com/LiheYoung/UniMatch (fixmatch.py).

    Deviations: CutMix partners are neighbours in the batch, and their labels come from the same pass
    of the student instead of a further one in evaluation mode.

    Args:
        threshold: confidence a pixel must reach; the papers use 0.95, and 0 on Cityscapes.
        unsupervised_weight: weight of the unlabeled loss before both are halved.
        mixer: how two strong views are mixed; default CutMix of every other image.
        ema_decay: decay of an averaged copy that is scored as the teacher but teaches nothing; null for none.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec(strong=1)

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        threshold: Fraction = 0.95,
        unsupervised_weight: NonNegative = 1.0,
        mixer: Mixer | None = None,
        ema_decay: Fraction | None = None,
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
        if ema_decay is not None:
            self.teacher = EMATeacher(network, decay=ema_decay, buffers="ema")
        self.mixer = mixer or CutMix(probability=0.5)
        self.threshold = Threshold(threshold)
        self.unsupervised_weight = unsupervised_weight

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """(L_x + L_s) / 2, L_s the thresholded cross-entropy over the valid pixels."""
        labeled, losses = self.supervised(batch)
        losses = {name: 0.5 * value for name, value in losses.items()}
        if batch.unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        with torch.no_grad():
            weak = self.student(batch.unlabeled.weak)
            target = self.refine(PseudoTarget.from_logits(weak.logits, batch.unlabeled.valid), weak, step)
            image, mixed = self.mixer(batch.unlabeled.strong[0], target, step)
            confidence, label = mixed.hard()
            mixed = self.threshold.weigh(mixed, confidence)
        strong = self.student(image)
        ignore = ignore_label(mixed.prob.shape[1])
        unsupervised = weighted_cross_entropy(
            strong.logits, mixed.only_valid(label), mixed.weight, ignore_index=ignore, normalize="valid"
        )
        losses["unsupervised"] = 0.5 * self.ramp(step) * self.unsupervised_weight * unsupervised
        log = {"confidence": confidence.mean(), "selected_pixels": (mixed.weight > 0).float().mean()}
        return self.finish(losses, log, StepViews(batch.labeled.label, labeled, weak, target, strong, mixed), step)
