"""USRN: self-training whose labels a branch on balanced subclasses may veto."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.components.subclass_branch import SubclassBranch
from evenseg.functional.cells import to_cells, to_pixels
from evenseg.functional.losses import weighted_cross_entropy
from evenseg.functional.subclass import Closed, Gate, Mapping
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.branch import Share
from evenseg.networks.ema import EMATeacher
from evenseg.networks.mode import eval_mode
from evenseg.types import (
    Batch,
    Count,
    DataFacts,
    Fraction,
    NetworkOutput,
    NonNegative,
    PseudoTarget,
    Seen,
    Step,
    StepOutput,
    StepViews,
    ViewSpec,
    ignore_label,
)


class USRN(Method):
    """Confident labels of the weak view teach the strong one, where a branch on subclasses of equal size agrees.

    Paper: Guan, Huang, Xiao and Lu, "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation"
    (USRN), CVPR 2022. Official code: https://github.com/Dayan-Guan/USRN.

    This is the joint training, stage 5; the recipe ``usrn`` makes the subclasses before. Deviation: places outside of
    the images teach nothing; ``preset: official`` lets them, as the code does. A place is a cell of 2x2 cells of the
    decoder, at stride 8 for DeepLabV3+, as in the code.

    Args:
        threshold: probability that a label must exceed, after regularisation; gamma in the paper.
        unsupervised_weight: of self-training of classes and subclasses, lambda u.
        subclass_weight: of both losses of the branch, lambda sub.
        subclass_supervision: whether there is a branch at all; without, this is plain self-training.
        self_training: the classes' (Eq. 7).
        regularization: of its labels by the subclasses (Eq. 6).
        subclass_self_training: Eq. 5.
        gate: where the branch is listened to: ``normalised`` entropies, ``mapped`` (Eq. 7 as printed), ``raw``,
            ``always`` (no gate), ``never``.
        closed: where it is not: plain self-training (``fallback``), or nothing (``drop``).
        mapping: from subclasses to classes: ``hard``, ``soft`` or ``sum_argmax``.
        renormalise: make the regularised probabilities sum to 1; for ``soft`` mapping.
        share: what branch and network have in common: ``low``, ``none`` or ``high`` (all but the classifier).
        subclass_loss_at: size at which the branch's supervised loss is taken, ``label`` or ``decoder``.
        places: size of the maps of the unsupervised losses: half of the ``decoder``'s, the decoder's, or ``full``.
        normalize: means over all valid places, or over those ``kept``.
        mask_padding: leave out places outside of the images.
        weak_pass: who labels the weak view: the student as it is trained (``train``) or evaluated (``eval``), or the
            ``teacher``, its average.
        ema_decay: of an averaged copy, which is scored as the teacher; null for none.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled losses then rise.
        data: classes and subclasses; handed in by the framework.
    """

    views = ViewSpec(strong=1)
    strong_apart = True
    own_components = (SubclassBranch,)
    presets = {"official": {"mask_padding": False}}  # noqa: RUF012

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        threshold: Fraction = 0.75,
        unsupervised_weight: NonNegative = 1.0,
        subclass_weight: NonNegative = 1.0,
        subclass_supervision: bool = True,
        self_training: bool = True,
        regularization: bool = True,
        subclass_self_training: bool = True,
        gate: Gate = "normalised",
        closed: Closed = "fallback",
        mapping: Mapping = "hard",
        renormalise: bool = False,
        share: Share = "low",
        subclass_loss_at: Literal["label", "decoder"] = "label",
        places: Literal["half", "decoder", "full"] = "half",
        normalize: Literal["all", "kept"] = "all",
        mask_padding: bool = True,
        weak_pass: Literal["train", "eval", "teacher"] = "train",
        ema_decay: Fraction | None = None,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
        data: DataFacts,
    ) -> None:
        own: list[Component] = []
        if subclass_supervision:
            branch = SubclassBranch(
                share=share,
                weight=subclass_weight,
                supervised_at=subclass_loss_at,
                regularization=regularization,
                self_training=subclass_self_training,
                threshold=threshold,
                unsupervised_weight=unsupervised_weight,
                normalize=normalize,
                mapping=mapping,
                gate=gate,
                closed=closed,
                renormalise=renormalise,
                ramp_steps=ramp_steps,
                ramp_start=supervised_steps,
                data=data,
            )
            own.append(branch)
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=[*own, *components],
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        if weak_pass == "teacher" and ema_decay is None:
            raise ValueError("weak_pass: there is no teacher; set ema_decay")
        if ema_decay is not None:
            self.teacher = EMATeacher(network, decay=ema_decay, buffers="ema")
        self.threshold, self.unsupervised_weight, self.self_training = threshold, unsupervised_weight, self_training
        self.places, self.normalize, self.mask_padding, self.weak_pass = places, normalize, mask_padding, weak_pass

    def labeler(self) -> nn.Module:
        """The teacher where it labels, else the student."""
        return self.teacher if self.weak_pass == "teacher" and self.teacher is not None else self.student

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """1 where the threshold is exceeded, else 0."""
        confidence = target.confidence if confidence is None else confidence
        return target._replace(weight=target.weight * (confidence > self.threshold))

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """L_s + lambda u (L_st + lambda sub L_sub), Eq. 8; those of the subclasses in ``SubclassBranch``."""
        unlabeled = batch.unlabeled
        # in evaluation mode, before a pass of this step has moved the running statistics
        early = self._weak(unlabeled.weak) if unlabeled is not None and self.weak_pass == "eval" else None
        labeled, losses = self.supervised(batch)  # Eq. 2
        if unlabeled is None:
            return self.finish(losses, {}, StepViews(batch.labeled.label, labeled), step)
        strong, _ = self._at_places(self.student(unlabeled.strong[0], strong=True), unlabeled.valid)
        weak, valid = self._at_places(early or self._weak(unlabeled.weak), unlabeled.valid)
        target = self.refine(PseudoTarget.from_logits(weak.logits, valid), weak, step)  # Eq. 6
        confidence, label = target.hard()
        taught = self.select(self.weigh(target, confidence), strong, step)
        ignore = ignore_label(target.prob.shape[1])
        unsupervised = weighted_cross_entropy(
            self.adjusted(strong.logits, step),
            taught.only_valid(label),
            taught.weight,
            ignore_index=ignore,
            normalize="valid" if self.normalize == "all" else "batch",
        )  # Eq. 7
        losses["unsupervised"] = self.self_training * self.unsupervised_weight * self.ramp(step) * unsupervised
        log = {"confidence": confidence.mean(), "selected_pixels": (taught.weight > 0).float().mean()}
        views = StepViews(batch.labeled.label, labeled, weak, target, strong, taught)
        seen = self._seen(unlabeled.strong[0], unlabeled.valid, taught) if step.picture else None
        return self.finish(losses, log, views, step, seen=seen, examined=self._examined(views, unlabeled.valid, step))

    @torch.no_grad()
    def pseudo_labels(self, weak: Tensor, valid: Tensor, step: Step) -> PseudoTarget:
        """As of every method; each pixel has the label of its place."""
        output, places = self._at_places(self._weak(weak), valid)
        target = self.refine(PseudoTarget.from_logits(output.logits, places), output, step)
        return self._enlarged(self.weigh(target), valid)

    def _weak(self, image: Tensor) -> NetworkOutput:
        """What labels the weak view, without gradient."""
        with torch.no_grad(), eval_mode(self.student) if self.weak_pass == "eval" else nullcontext():
            output: NetworkOutput = self.labeler()(image)
        torch.clear_autocast_cache()  # older torch would go on with the weights it cast here, without gradient
        return output

    def _at_places(self, output: NetworkOutput, valid: Tensor) -> tuple[NetworkOutput, Tensor]:
        """An output with all logits at the size of the unsupervised losses; (B, h, w) bool, the places in the image."""
        size = (valid.shape[1], valid.shape[2])
        padded = self.student.padded_size(*size)
        cells = (output.coarse["class"].shape[2], output.coarse["class"].shape[3])

        def resize(logits: Tensor) -> Tensor:
            if self.places == "full":
                enlarged = F.interpolate(logits, padded, mode="bilinear", align_corners=True)
                return enlarged[..., : size[0], : size[1]]
            # the code halves the features, which a linear classifier cannot tell from this
            return _halved(logits) if self.places == "half" else logits

        coarse = {name: resize(logits) for name, logits in output.coarse.items()}
        if not self.mask_padding:
            inside = torch.ones(len(valid), *coarse["class"].shape[2:], dtype=torch.bool, device=valid.device)
        elif self.places == "full":
            inside = valid
        else:
            inside = to_cells(valid, cells, padded, outside=False)
            if self.places == "half":
                inside = _halved(inside.float().unsqueeze(1)).squeeze(1) == 1
        return output._replace(logits=coarse["class"], coarse=coarse), inside

    def _enlarged(self, target: PseudoTarget, valid: Tensor) -> PseudoTarget:
        """A target of places as one of pixels."""
        size = (valid.shape[1], valid.shape[2])
        padded = self.student.padded_size(*size)
        prob, weight = (to_pixels(each, size, padded) for each in (target.prob, target.weight))
        return PseudoTarget(prob, weight * valid, valid, self._truth)

    def _examined(self, views: StepViews, valid: Tensor, step: Step) -> StepViews | None:
        """The views at the size of the image, in steps whose pseudo-labels are examined."""
        if not step.health or views.strong is None or views.mixed is None:
            return None
        size = (valid.shape[1], valid.shape[2])
        logits = to_pixels(views.strong.logits.detach(), size, self.student.padded_size(*size))
        return views._replace(strong=NetworkOutput(logits), mixed=self._enlarged(views.mixed, valid))

    def _seen(self, image: Tensor, valid: Tensor, taught: PseudoTarget) -> Seen:
        """The strong view with the labels of the places that have weight."""
        enlarged = self._enlarged(taught, valid)
        _, label = enlarged.hard()
        return Seen(image.detach(), label.where(enlarged.weight > 0, ignore_label(taught.prob.shape[1])))


def _halved(cells: Tensor) -> Tensor:
    """(B, K, h, w) to half of the size, rounded up: means of 2x2 cells."""
    return F.avg_pool2d(cells, 2, ceil_mode=True, count_include_pad=False)
