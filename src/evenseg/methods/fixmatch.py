"""FixMatch for segmentation: one network, from the weak to the strong view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix
from evenseg.components.threshold import Threshold
from evenseg.functional.losses import weighted_cross_entropy
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.networks.mode import eval_mode
from evenseg.types import (
    Batch,
    Count,
    Fraction,
    NetworkOutput,
    NonNegative,
    PseudoTarget,
    Step,
    StepOutput,
    StepViews,
    UnlabeledBatch,
    ViewSpec,
    ignore_label,
)


class FixMatch(Method):
    """Confident predictions on the weak view are the labels of the strong view.

    Paper: Sohn et al., "FixMatch", NeurIPS 2020, https://arxiv.org/abs/2001.07685, in the form for
    segmentation of Yang et al., "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic
    Segmentation" (UniMatch), CVPR 2023, https://arxiv.org/abs/2208.09910. Official code of the
    latter: https://github.com/LiheYoung/UniMatch (fixmatch.py).

    Deviations: by default labeled and weak images pass through the student one after the other, each
    with batch statistics of its own; the labels of pasted pixels come from the same pass as all
    others; and boxes cover half of the image. ``preset: official`` does as the code does: one pass of
    labeled and weak images together, a further pass in evaluation mode for what is pasted, and boxes
    of 2 to 40 % of the image. With either, partners are neighbours in the batch, not a second batch.

    Args:
        threshold: confidence a pixel must reach; the papers use 0.95, and 0 on Cityscapes.
        unsupervised_weight: weight of the unlabeled loss before both are halved.
        mixer: how two strong views are mixed; default CutMix of every other image.
        joint_pass: labeled and weak images in one pass, normalised by common batch statistics.
        partner_mode: mode of the student as it labels pasted pixels: ``train``, in the pass of all
            others, or ``eval``, in a further one.
        ema_decay: decay of an averaged copy that is scored as the teacher but teaches nothing; null for none.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec(strong=1)
    strong_apart = True
    presets = {  # noqa: RUF012
        "official": {
            "joint_pass": True,
            "partner_mode": "eval",
            "mixer": {"name": "cutmix", "area": [0.02, 0.4], "aspect": [0.3, 1 / 0.3], "probability": 0.5},
        }
    }

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        threshold: Fraction = 0.95,
        unsupervised_weight: NonNegative = 1.0,
        mixer: Mixer | None = None,
        joint_pass: bool = False,
        partner_mode: Literal["train", "eval"] = "train",
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
        self.joint_pass = joint_pass
        self.partner_mode = partner_mode
        self.unsupervised_weight = unsupervised_weight

    def labeler(self) -> nn.Module:
        """The student; an averaged copy teaches nothing."""
        return self.student

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """1 where the threshold is reached, else 0."""
        return self.threshold.weigh(target, confidence)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """(L_x + L_s) / 2, L_s the thresholded cross-entropy over the valid pixels."""
        unlabeled = batch.unlabeled
        if unlabeled is None:
            labeled, losses = self.supervised(batch)
            losses = {name: 0.5 * value for name, value in losses.items()}
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        pasted = self._pasted(unlabeled, step)
        labeled, weak = self._first_passes(batch.labeled.image, unlabeled.weak)
        losses = self.supervised_losses(labeled, batch.labeled.label)
        losses = {name: 0.5 * value for name, value in losses.items()}
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        with torch.no_grad():
            image, mixed = self.mixer(unlabeled.strong[0], target, step, index=unlabeled.index, **pasted)
            confidence, label = mixed.hard()
            mixed = self.weigh(mixed, confidence)
        strong = self.student(image, strong=True)
        mixed = self.select(mixed, strong, step)
        ignore = ignore_label(mixed.prob.shape[1])
        unsupervised = weighted_cross_entropy(
            self.adjusted(strong.logits, step),
            mixed.only_valid(label),
            mixed.weight,
            ignore_index=ignore,
            normalize="valid",
        )
        losses["unsupervised"] = 0.5 * self.ramp(step) * self.unsupervised_weight * unsupervised
        log = {"confidence": confidence.mean(), "selected_pixels": (mixed.weight > 0).float().mean()}
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, mixed, image)
        return self.finish(losses, log, views, step)

    def _pasted(self, unlabeled: UnlabeledBatch, step: Step) -> dict[str, PseudoTarget]:
        """What the mixer is told of pasted pixels, before a pass of this step has moved the running statistics."""
        if self.partner_mode == "train":
            return {}
        with torch.no_grad(), eval_mode(self.student):
            weak: NetworkOutput = self.student(unlabeled.weak)
        torch.clear_autocast_cache()  # older torch would go on with the weights it cast here, without gradient
        return {"pasted": self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)}

    def _first_passes(self, labeled: Tensor, weak: Tensor) -> tuple[NetworkOutput, NetworkOutput]:
        """The student on labeled and on weak images; what it says of the weak ones is without gradient."""
        if not self.joint_pass:
            with_gradient: NetworkOutput = self.student(labeled)
            with torch.no_grad():
                return with_gradient, self.student(weak)
        both: NetworkOutput = self.student(torch.cat([labeled, weak]))
        with_gradient, of_weak = both.split(len(labeled))
        return with_gradient, of_weak.detach()
