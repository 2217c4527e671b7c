"""C3-SemiSeg: consistency under cross-set mixing, contrast between pixels, class-balanced confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.components.cross_set import CrossSetMixer, Mixture, Pairing
from evenseg.components.dynamic_region import DynamicRegion
from evenseg.components.pixel_contrast import PixelContrast
from evenseg.components.supervised_loss import CrossEntropy
from evenseg.errors import InputError
from evenseg.functional.losses import soft_cross_entropy
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.types import (
    Batch,
    Count,
    Fraction,
    NonNegative,
    Positive,
    PseudoTarget,
    Seen,
    Step,
    StepOutput,
    StepViews,
    UnlabeledBatch,
    ViewSpec,
    ignore_label,
)

View = Literal["weak", "strong"]


class C3SemiSeg(Method):
    """Mixes labeled with unlabeled images, contrasts their pixels, and keeps an equal share of every class.

    Paper: Zhou, Xu, Zhang, Gao and Heng, "C3-SemiSeg: Contrastive Semi-supervised Segmentation via Cross-set
    Learning and Dynamic Class-balancing", ICCV 2021. Official code: https://github.com/SIAAAAAA/C3-SemiSeg
    (commit b2e2489).

    Deviations: pairs to be mixed are drawn within groups of two labeled and two unlabeled images, contrast keys come
    from all processes, pixels outside of the images never count, and class 0 is contrasted like any other. The
    consistency is divided by the number of classes, as the code does. ``preset: official`` selects the code's other
    readings: no class 0, keys of each process alone, contrast on labeled pixels from the first step, its 250-step
    ramp and its factor of 1.5.

    Args:
        ema_decay: decay of the teacher's weights, which starts as a copy of the student after the supervised steps.
        ema_warmup: at step k after that a decay of at most 1 - 1 / (k + 1).
        unsupervised_weight: of the consistency, lambda 1 in the paper.
        class_reduction: of the consistency: ``mean`` or ``sum`` (Eq. 2) over classes.
        per_image: means over the pixels of each image and then over images (Eq. 1 and 2), not over all pixels.
        mixing: partners of an image: ``random``, ``cross_only``: of the other set, ``intra``: of its own, ``none``.
        teacher_view: the view of unlabeled images that the teacher sees.
        student_view: the one that the student sees; a strong one of either is drawn for itself.
        region_ratio: share of each class that the dynamic thresholds keep, s in the paper; 1: no thresholds.
        region_momentum: of the thresholds, beta in the paper.
        region_initial: what they start from; null: each from the first batch in which its class is predicted.
        contrast_weight: of the pixel contrast, lambda 2 in the paper.
        contrast_source: whose pixels are contrasted; ``none``: no contrast and no projection head.
        anchor_sampling: ``segmentation``: half of the anchors hard; ``random``.
        anchors: pixels per class and image.
        temperature: of the contrast, tau in the paper.
        base_temperature: multiplies the contrast by temperature / base_temperature.
        small_groups: classes with few pixels in an image: left out (``strict``), or not (``variable``).
        skip_classes: classes that are not contrasted.
        teacher_all: the teacher's embeddings as keys of labeled pixels too, at the cost of a pass.
        gather_contrast: keys of all processes; false: of each alone.
        warmup_contrast: contrast labeled pixels in the supervised steps too.
        contrast_ramp_steps: steps over which the contrast rises.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the consistency then rises.
    """

    views = ViewSpec(strong=1)
    own_components = (DynamicRegion, PixelContrast)
    presets = {  # noqa: RUF012
        "official": {
            "base_temperature": 0.1,
            "skip_classes": [0],
            "gather_contrast": False,
            "warmup_contrast": True,
            "contrast_ramp_steps": 250,
        }
    }

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.99,
        ema_warmup: bool = True,
        unsupervised_weight: NonNegative = 50.0,
        class_reduction: Literal["mean", "sum"] = "mean",
        per_image: bool = False,
        mixing: Pairing = "random",
        teacher_view: View = "weak",
        student_view: View = "strong",
        region_ratio: Fraction = 0.8,
        region_momentum: Fraction = 0.9,
        region_initial: Fraction | None = 0.9,
        contrast_weight: NonNegative = 0.1,
        contrast_source: Literal["both", "labeled", "unlabeled", "none"] = "both",
        anchor_sampling: Literal["segmentation", "random"] = "segmentation",
        anchors: Count = 20,
        temperature: Positive = 0.15,
        base_temperature: Positive | None = None,
        small_groups: Literal["strict", "variable"] = "strict",
        skip_classes: Sequence[Count] = (),
        teacher_all: bool = False,
        gather_contrast: bool = True,
        warmup_contrast: bool = False,
        contrast_ramp_steps: Count = 0,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 2250,
        ramp_steps: Count = 4000,
    ) -> None:
        own: list[Component] = [DynamicRegion(region_ratio, momentum=region_momentum, initial=region_initial)]
        if contrast_source != "none":
            contrast = PixelContrast(
                contrast_weight,
                temperature=temperature,
                base_temperature=base_temperature,
                anchors=anchors,
                sampling=anchor_sampling,
                source=contrast_source,
                small_groups=small_groups,
                skip_classes=skip_classes,
                gather=gather_contrast,
                warmup=warmup_contrast,
                ramp_steps=contrast_ramp_steps,
                ramp_start=0 if warmup_contrast else supervised_steps,
            )
            own.append(contrast)
        super().__init__(
            network,
            supervised_loss=supervised_loss or CrossEntropy(normalize="image" if per_image else "batch"),
            components=[*own, *components],
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        self.teacher: EMATeacher = EMATeacher(network, decay=ema_decay, warmup=ema_warmup)
        self.cross_set = CrossSetMixer(mixing)
        self.unsupervised_weight, self.class_reduction, self.per_image = unsupervised_weight, class_reduction, per_image
        self.teacher_view, self.student_view = teacher_view, student_view
        self.teacher_all = teacher_all and contrast_source in ("both", "labeled")
        self.views = ViewSpec(strong=[teacher_view, student_view].count("strong"))

    def check_batches(self, labeled: int, unlabeled: int) -> None:
        """Images are mixed in groups of two labeled and two unlabeled ones."""
        if self.cross_set.pairing != "none" and (labeled != unlabeled or labeled % 2):
            raise InputError(
                f"c3 mixes two labeled with two unlabeled images, and is given {labeled} and {unlabeled} at a time: "
                "make train.labeled_batch and train.unlabeled_batch equal and even on each process and in each of "
                "train.micro_batches, or set method.mixing to none"
            )

    def ema_step(self, step_index: int) -> int:
        """Counts from the first step with unlabeled images, before which the teacher is a copy."""
        return max(0, step_index + 1 - self.supervised_steps)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Supervised loss + lambda 1 * consistency + lambda 2 * contrast, Eq. 7."""
        if batch.unlabeled is None:
            labeled, losses = self.supervised(batch)
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        to_teacher, to_student = self._views_of(batch.unlabeled)
        weak = self.teacher(to_teacher)
        target = self.refine(PseudoTarget.from_logits(weak.logits, batch.unlabeled.valid), weak, step)  # Eq. 6
        mixture = self.cross_set.draw(step, batch.labeled.image, to_student)
        image = mixture(torch.cat([batch.labeled.image, to_student]))  # Eq. 4
        # each region of a mixture is compared with what belongs to it: everything goes back to its own image
        labeled, strong = mixture.output(self.student(image)).split(len(to_student))
        target = self.select(target, strong, step)
        losses = self.supervised_losses(labeled, batch.labeled.label)  # Eq. 1
        consistency = soft_cross_entropy(
            self.adjusted(strong.logits, step),
            target.prob,
            target.weight,
            normalize="image" if self.per_image else "batch",
        )  # Eq. 2
        if self.class_reduction == "mean":
            consistency = consistency / target.prob.shape[1]
        losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * consistency
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, target, to_student)
        if self.teacher_all:
            views = views._replace(labeled_teacher=self.teacher(batch.labeled.image))
        log = {"weight": target.weight.mean()}
        seen = _seen(image, mixture, batch.labeled.label, target) if step.picture else None
        return self.finish(losses, log, views, step, seen=seen)  # Eq. 3 and 5 in ``PixelContrast``

    def _views_of(self, unlabeled: UnlabeledBatch) -> tuple[Tensor, Tensor]:
        """The images that teacher and student see."""
        strong = list(unlabeled.strong)
        to_student = strong.pop(0) if self.student_view == "strong" else unlabeled.weak
        return strong.pop(0) if self.teacher_view == "strong" else unlabeled.weak, to_student


def _seen(image: Tensor, mixture: Mixture, label: Tensor, target: PseudoTarget) -> Seen:
    """The mixtures in the places of the unlabeled images; where labeled ones show, their labels."""
    taught = target.label.where(target.weight > 0, ignore_label(target.prob.shape[1]))
    return Seen(image.chunk(2)[1], mixture(torch.cat([label, taught])).chunk(2)[1])
