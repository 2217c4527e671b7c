"""UniMatch V2: an averaged teacher, and two strong views with complementary channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix
from evenseg.components.threshold import Threshold
from evenseg.functional.channel_dropout import complementary_dropout
from evenseg.functional.losses import weighted_cross_entropy
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.networks.mode import eval_mode
from evenseg.types import (
    Batch,
    Count,
    Fraction,
    NonNegative,
    PseudoTarget,
    Step,
    StepOutput,
    StepViews,
    UnlabeledBatch,
    ViewSpec,
    ignore_label,
)

SECOND = 1 << 34  # added to the slot of an image in the keys of what is drawn for its second strong view


class UniMatchV2(Method):
    """The teacher's confident labels of the weak view teach two strong views, each with half of the channels.

    Paper: Yang, Zhao and Zhao, "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", 2024,
    https://arxiv.org/abs/2410.10777. Official code: https://github.com/LiheYoung/UniMatch-V2 (commit 70fe066;
    its fixmatch.py, model/semseg/dpt.py).

    Deviations: partners of CutMix are neighbours in the batch, not the images counted from its other end; of two
    neighbours one keeps all channels, where the code draws half of a GPU's images; means over pixels are those of all
    processes. The decoder is smp's DPT, see docs/methods/unimatch_v2.md.

    Args:
        ema_decay: decay of the teacher's average, running statistics included.
        ema_warmup: lower decay in the first steps.
        threshold: confidence a pixel must reach.
        unsupervised_weight: weight of the unlabeled loss before both losses are halved.
        mixer: how strong views are mixed, each view anew; default CutMix of every other image, 2 to 40 % of it.
        dropout: of the channels of all maps that the decoder is given from stride 4 on (of a plain transformer: all):
            ``complementary``: what one view loses the other keeps; ``independent``; ``none``.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec(strong=2)
    strong_apart = True

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.996,
        ema_warmup: bool = True,
        threshold: Fraction = 0.95,
        unsupervised_weight: NonNegative = 1.0,
        mixer: Mixer | None = None,
        dropout: Literal["complementary", "independent", "none"] = "complementary",
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
        self.teacher: EMATeacher = EMATeacher(network, decay=ema_decay, warmup=ema_warmup, buffers="ema")
        self.mixer = mixer or CutMix(area=(0.02, 0.4), aspect=(0.3, 1 / 0.3), probability=0.5)
        self.threshold = Threshold(threshold)
        self.unsupervised_weight = unsupervised_weight
        self.dropout = dropout

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """1 where the threshold is reached, else 0."""
        return self.threshold.weigh(target, confidence)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """(L_x + (L_s1 + L_s2) / 2) / 2, each L_s the thresholded cross-entropy over the valid pixels."""
        labeled, losses = self.supervised(batch)
        losses = {name: 0.5 * value for name, value in losses.items()}
        unlabeled = batch.unlabeled
        if unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        weak = self.teacher(unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        other = step._replace(unlabeled_slot=SECOND + step.unlabeled_slot)
        image, mixed, label = self._mix(unlabeled, 0, target, step)
        second_image, second_mixed, second_label = self._mix(unlabeled, 1, target, other)
        both = self.student(
            torch.cat([image, second_image]), strong=True, channel_factor=self._channels(len(image), step)
        )
        strong, second = both.split(len(image))
        mixed = self.select(mixed, strong, step)
        with eval_mode(self.components):  # they have their statistics from the first view
            second_mixed = self.select(second_mixed, second, other)
        of_first = self._loss(self.adjusted(strong.logits, step), mixed, label)
        of_second = self._loss(self.adjusted(second.logits, other), second_mixed, second_label)
        unsupervised = (of_first + of_second) / 2
        losses["unsupervised"] = 0.5 * self.ramp(step) * self.unsupervised_weight * unsupervised
        log = {"confidence": mixed.confidence.mean(), "selected_pixels": (mixed.weight > 0).float().mean()}
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, mixed, image)
        return self.finish(losses, log, views, step)

    @torch.no_grad()
    def _mix(
        self, unlabeled: UnlabeledBatch, view: int, target: PseudoTarget, step: Step
    ) -> tuple[Tensor, PseudoTarget, Tensor]:
        """A strong view mixed, its weighted target, and the label of each pixel (B, H, W)."""
        index = unlabeled.index if view == 0 else None  # the mixer is told of the images once
        image, mixed = self.mixer(unlabeled.strong[view], target, step, index=index)
        confidence, label = mixed.hard()
        return image, self.weigh(mixed, confidence), label

    def _channels(self, batch: int, step: Step) -> Tensor | None:
        """Factors (2 B, D) of the channels of both views' maps."""
        if self.dropout == "none":
            return None
        first, second = complementary_dropout(
            step.seed,
            step.index,
            step.unlabeled_slot,
            batch,
            max(self.student.map_channels),
            complementary=self.dropout == "complementary",
            device=self.student.scale.device,
        )
        return torch.cat([first, second])

    def _loss(self, logits: Tensor, mixed: PseudoTarget, label: Tensor) -> Tensor:
        """Cross-entropy of the pixels with weight, divided by the number of valid ones."""
        return weighted_cross_entropy(
            logits,
            mixed.only_valid(label),
            mixed.weight,
            ignore_index=ignore_label(mixed.prob.shape[1]),
            normalize="valid",
        )
