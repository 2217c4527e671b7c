"""UniMatch: one weak view teaches two strong ones, and itself with disturbed features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix, images_of
from evenseg.components.threshold import Threshold
from evenseg.functional.losses import weighted_cross_entropy
from evenseg.functional.random import key, slot_noise
from evenseg.methods.base import Method
from evenseg.networks.base import PERTURBED, SegmentationNetwork
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


class UniMatch(Method):
    """FixMatch with two strong views of every image and a third stream whose features lose half of their channels.

    Paper: Yang, Qi, Feng, Zhang and Shi, "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic
    Segmentation", CVPR 2023, https://arxiv.org/abs/2208.09910. Official code: https://github.com/LiheYoung/UniMatch
    (unimatch.py, commit 7292bac).

    Deviations: partners are neighbours in the batch, not a second batch. By default labeled and weak images pass
    one after the other, each normalised by statistics of its own, and the labels of pasted pixels come from the same
    pass as all others; ``preset: official`` does as the code: one pass of labeled and weak images, and a further
    one in evaluation mode for what is pasted. ``preset: cityscapes`` is that without a threshold.

    Components see the first strong view, and their statistics follow it; they act on all three streams.

    Args:
        threshold: confidence a pixel must reach; 0 on Cityscapes.
        unsupervised_weight: weight of all three streams before they and the supervised loss are halved.
        strong_weight: of the strong views together, mu in the paper.
        feature_weight: of the stream with disturbed features, lambda in the paper; 0: none, and no pass for it.
        strong_views: two, which is the paper's DusPerb, or one (with ``feature_weight`` UniPerb, without FixMatch).
        perturbation: share of the channels of the encoder's maps that the disturbed stream loses, drawn for each image.
        mixer: how each of the strong views is mixed; default CutMix of every other image, 2 to 40 % of the area.
        joint_pass: labeled and weak images in one pass, normalised by common batch statistics.
        partner_mode: mode of the student as it labels pasted pixels: ``train``, in the pass of all
            others, or ``eval``, in a further one.
        ema_decay: decay of an averaged copy that is scored as the teacher but teaches nothing; null for none.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled losses then rise.
    """

    views = ViewSpec(strong=2)
    strong_apart = True
    presets = {  # noqa: RUF012
        "official": {"joint_pass": True, "partner_mode": "eval"},
        "cityscapes": {"joint_pass": True, "partner_mode": "eval", "threshold": 0.0},
    }

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        threshold: Fraction = 0.95,
        unsupervised_weight: NonNegative = 1.0,
        strong_weight: NonNegative = 0.5,
        feature_weight: NonNegative = 0.5,
        strong_views: Literal[2, 1] = 2,
        perturbation: Fraction = 0.5,
        mixer: Mixer | None = None,
        joint_pass: bool = False,
        partner_mode: Literal["train", "eval"] = "train",
        ema_decay: Fraction | None = None,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
    ) -> None:
        if perturbation == 1:
            raise ValueError("perturbation: without any channel there is nothing to predict from; the paper has 0.5")
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=components,
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        if ema_decay is not None:
            self.teacher = EMATeacher(network, decay=ema_decay, buffers="ema")
        self.mixer = mixer or CutMix(area=(0.02, 0.4), aspect=(0.3, 1 / 0.3), probability=0.5)
        self.threshold = Threshold(threshold)
        self.unsupervised_weight = unsupervised_weight
        self.strong_weight, self.feature_weight, self.perturbation = strong_weight, feature_weight, perturbation
        self.joint_pass, self.partner_mode = joint_pass, partner_mode
        self.views = ViewSpec(strong=strong_views)

    def labeler(self) -> nn.Module:
        """The student; an averaged copy teaches nothing."""
        return self.student

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """1 where the threshold is reached, else 0."""
        return self.threshold.weigh(target, confidence)

    @torch.no_grad()
    def pseudo_labels(self, weak: Tensor, valid: Tensor, step: Step) -> PseudoTarget:
        """As of every method; the pass has its disturbed half, by which batch statistics are taken too."""
        output = self._weak_pass(weak, step).detach()
        return self.weigh(self.refine(PseudoTarget.from_logits(output.logits, valid), output, step))

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """(L_x + mu (L_s1 + L_s2) / 2 + lambda L_fp) / 2, each L a sum over sure pixels / number of valid ones."""
        unlabeled = batch.unlabeled
        if unlabeled is None:
            labeled, losses = self.supervised(batch)
            losses = {name: 0.5 * value for name, value in losses.items()}
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        pasted = self._pasted(unlabeled, step)
        labeled, weak = self._first_passes(batch.labeled.image, unlabeled.weak, step)
        losses = self.supervised_losses(labeled, batch.labeled.label)
        losses = {name: 0.5 * value for name, value in losses.items()}
        disturbed = weak.heads.pop(PERTURBED, None)
        weak = weak.detach()
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        scale = 0.5 * self.ramp(step) * self.unsupervised_weight
        strong_loss, views, log = self._strong(unlabeled, target, pasted, step)
        losses["unsupervised"] = scale * self.strong_weight * strong_loss
        if disturbed is not None:
            own = slice(None, self._slots(unlabeled.weak))
            taught, disturbed = images_of(target, own), disturbed[own]
            confidence, label = taught.hard()
            with eval_mode(self.components):
                taught = self.select(self.weigh(taught, confidence), NetworkOutput(disturbed), step)
            losses["feature_perturbation"] = (
                scale * self.feature_weight * _consistency(self.adjusted(disturbed, step), taught, label)
            )
        views = views._replace(label=batch.labeled.label, labeled=labeled, weak=weak)
        return self.finish(losses, log, views, step)

    def _strong(
        self, unlabeled: UnlabeledBatch, target: PseudoTarget, pasted: dict[str, PseudoTarget], step: Step
    ) -> tuple[Tensor, StepViews, dict[str, Tensor]]:
        """Mean loss of the strong views, which are mixed each for itself and pass together; what the first one was."""
        images, targets, hard = [], [], []
        for number, view in enumerate(unlabeled.strong):
            with torch.no_grad():
                index = unlabeled.index if number == 0 else None  # a mixer is told once of the images
                image, mixed = self.mixer(view, target, _of_view(step, number), index=index, **pasted)
                confidence, label = mixed.hard()
            images.append(image)
            targets.append(self.weigh(mixed, confidence))
            hard.append((confidence, label))
        both: NetworkOutput = self.student(torch.cat(images), strong=True)
        first, second = both.split(len(images[0]))
        targets[0] = self.select(targets[0], first, step)
        loss = _consistency(self.adjusted(first.logits, step), targets[0], hard[0][1])
        if len(images) == 2:
            with eval_mode(self.components):
                targets[1] = self.select(targets[1], second, _of_view(step, 1))
            logits = self.adjusted(second.logits, _of_view(step, 1))
            loss = 0.5 * (loss + _consistency(logits, targets[1], hard[1][1]))
        log = {"confidence": hard[0][0].mean(), "selected_pixels": (targets[0].weight > 0).float().mean()}
        return loss, StepViews(hard[0][1], first, None, target, first, targets[0], images[0]), log

    def _pasted(self, unlabeled: UnlabeledBatch, step: Step) -> dict[str, PseudoTarget]:
        """What the mixer is told of pasted pixels, before a pass of this step has moved the running statistics."""
        if self.partner_mode == "train":
            return {}
        with torch.no_grad(), eval_mode(self.student):
            weak: NetworkOutput = self.student(unlabeled.weak)
        torch.clear_autocast_cache()  # older torch would go on with the weights it cast here, without gradient
        return {"pasted": self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)}

    def _first_passes(self, labeled: Tensor, weak: Tensor, step: Step) -> tuple[NetworkOutput, NetworkOutput]:
        """The student on labeled and on weak images, on the latter with disturbed features as well."""
        if not self.joint_pass:
            with_gradient: NetworkOutput = self.student(labeled)
            return with_gradient, self._weak_pass(weak, step)
        factors = None
        if self.feature_weight:
            factors = torch.cat([self._of_labeled(labeled, step), self._of_weak(weak, step)])
        both: NetworkOutput = self.student(torch.cat([labeled, weak]), second_factor=factors)
        with_gradient, of_weak = both.split(len(labeled))
        with_gradient.heads.pop(PERTURBED, None)
        return with_gradient, of_weak

    def _weak_pass(self, weak: Tensor, step: Step) -> NetworkOutput:
        """Without gradient where nothing learns from it."""
        factors = self._of_weak(weak, step) if self.feature_weight else None
        with torch.set_grad_enabled(torch.is_grad_enabled() and factors is not None):
            output: NetworkOutput = self.student(weak, second_factor=factors)
        return output

    def _slots(self, weak: Tensor) -> int:
        """How many of the images have a slot; the others are their partners, which nothing is learned from."""
        return len(weak) // 2 if self.mixer.partners else len(weak)

    def _of_labeled(self, labeled: Tensor, step: Step) -> Tensor:
        return self._factors(labeled, step, step.labeled_slot, "disturbed labeled")

    def _of_weak(self, weak: Tensor, step: Step) -> Tensor:
        """Factors of the images that have a slot, and the same of their partners."""
        slots = self._slots(weak)
        return self._factors(weak[:slots], step, step.unlabeled_slot, "disturbed").repeat(len(weak) // slots, 1)

    def _factors(self, image: Tensor, step: Step, slot: int, stream: str) -> Tensor:
        """(B, K) factors of the channels of the encoder's maps: 0 for those that are lost, 1 / (1 - share) else."""
        channels = self.student.decoded_channels
        noise = slot_noise(step.seed, step.index, slot, len(image), channels, stream=stream, device=image.device)
        return (noise >= round(self.perturbation * (1 << 31))).float() / (1 - self.perturbation)


def _consistency(logits: Tensor, target: PseudoTarget, label: Tensor) -> Tensor:
    """Cross-entropy against the labels, a sum over pixels with weight / number of valid ones."""
    ignore = ignore_label(target.prob.shape[1])
    return weighted_cross_entropy(
        logits, target.only_valid(label), target.weight, ignore_index=ignore, normalize="valid"
    )


def _of_view(step: Step, number: int) -> Step:
    """The step with draws of their own for each strong view."""
    return step if number == 0 else step._replace(seed=key(step.seed, "strong view", number))
