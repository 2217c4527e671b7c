"""A second branch that learns subclasses of equal size, and its say in the pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.functional.cells import to_cells, to_pixels
from evenseg.functional.class_confidence import pixels_per_class
from evenseg.functional.distributed import global_mean
from evenseg.functional.enlarged_loss import enlarged_cross_entropy
from evenseg.functional.losses import cross_entropy, pixel_cross_entropy
from evenseg.functional.random import side_branch
from evenseg.functional.schedules import sigmoid_ramp
from evenseg.functional.subclass import Closed, Gate, Mapping, Verdict, parent_classes, regularise, verdict
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.branch import Share
from evenseg.planes import as_planes
from evenseg.types import (
    Batch,
    Count,
    DataFacts,
    Fraction,
    NetworkOutput,
    NonNegative,
    PseudoTarget,
    Size,
    Step,
    StepViews,
    ignore_label,
)

BRANCH = "subclass"


class SubclassBranch(Component):
    """A branch of the network that tells subclasses apart, learned beside the classes, regularises the pseudo-labels.

    The subclasses are those of ``data.subclasses``: each class of the labeled pixels, divided into parts of about the
    size of the rarest class, so that no class is more frequent than another. What the branch says of a weak view is
    mapped to classes and multiplied with the class probabilities, unless it is less certain than these. With a
    threshold of 0.5 or more it then vetoes labels, and never changes one. The branch is of no use to predictions and
    takes no part in them.

    Source: Guan, Huang, Xiao and Lu, "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation"
    (USRN), CVPR 2022, Eq. 2-7.

    Args:
        share: what branch and network have in common: the encoder up to stride 4 (``low``), nothing (``none``), or
            all but the classifier (``high``).
        weight: of both losses of the branch, lambda sub.
        supervised_at: size at which its supervised loss is taken: that of the ``label``, or that of the ``decoder``,
            which is cheaper and another loss.
        regularization: multiply the class probabilities by what the branch says.
        self_training: train the branch on what it is sure of itself (Eq. 5).
        threshold: probability that a subclass must exceed to train the branch, gamma.
        unsupervised_weight: of the self-training, lambda u.
        normalize: means of the self-training over all valid places, or over those ``kept``.
        mapping: from subclasses to classes: the class of the most probable one (``hard``), sums of probabilities
            (``soft``), or the class of the largest sum (``sum_argmax``).
        gate: where the branch is listened to: ``normalised`` entropies, ``mapped`` (Eq. 7 as printed), ``raw``,
            ``always``, ``never``.
        closed: where it is not: plain self-training (``fallback``), or nothing (``drop``).
        renormalise: make the regularised probabilities sum to 1; for ``soft`` mapping.
        ramp_steps: steps over which the self-training rises.
        ramp_start: step at which it begins to.
        counts: subclasses of each class, where there is no ``data.subclasses`` to tell.
        data: the same; handed in by the framework.
    """

    parent: Tensor

    def __init__(
        self,
        *,
        share: Share = "low",
        weight: NonNegative = 1.0,
        supervised_at: Literal["label", "decoder"] = "label",
        regularization: bool = True,
        self_training: bool = True,
        threshold: Fraction = 0.75,
        unsupervised_weight: NonNegative = 1.0,
        normalize: Literal["all", "kept"] = "all",
        mapping: Mapping = "hard",
        gate: Gate = "normalised",
        closed: Closed = "fallback",
        renormalise: bool = False,
        ramp_steps: Count = 0,
        ramp_start: Count = 0,
        counts: Sequence[Size] | None = None,
        data: DataFacts,
    ) -> None:
        super().__init__()
        known = data.subclass_counts if counts is None else torch.tensor(list(counts))
        if known is None:
            raise ValueError("there are no subclasses; set data.subclasses to what the cluster stage has made")
        if len(known) != len(data.class_names):
            raise ValueError(f"counts: {len(known)} numbers for {len(data.class_names)} classes; give one for each")
        self.share, self.weight, self.supervised_at = share, weight, supervised_at
        self.regularization, self.self_training = regularization, self_training
        self.threshold, self.unsupervised_weight, self.normalize = threshold, unsupervised_weight, normalize
        self.mapping, self.gate, self.closed, self.renormalise = mapping, gate, closed, renormalise
        self.ramp_steps, self.ramp_start = ramp_steps, ramp_start
        self.register_buffer("parent", parent_classes(known.long()))
        self.num_subclasses = len(self.parent)
        self.ignore = ignore_label(self.num_subclasses)
        self._padded: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width)
        self._figures: dict[str, Tensor] = {}

    def attach(self, network: nn.Module) -> None:
        """Add the branch."""
        assert isinstance(network, SegmentationNetwork)
        with side_branch(BRANCH):  # the network and whatever is added to it start as they would without
            network.add_branch(BRANCH, self.num_subclasses, share=self.share)
        self._padded = network.padded_size

    def prepare(self, batch: Batch, step: Step) -> Batch:
        """Forgets what the last step had to tell."""
        self._figures = {}
        return batch

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Regularises the class probabilities, and notes the subclasses that are sure enough (Eq. 3-7)."""
        prob, found = self._verdict(weak)
        if step.health:
            self._figures = _figures(prob, found)
        found = self._of_pixels(found, target.prob)
        sure = found.confidence > self.threshold
        if target.valid is not None:
            sure = sure & target.valid
        target = target._replace(maps={**target.maps, BRANCH: found.subclass.where(sure, self.ignore)})
        if not self.regularization:
            return target
        return target._replace(prob=regularise(target.prob, found, closed=self.closed, renormalise=self.renormalise))

    def regularised(self, output: NetworkOutput) -> Tensor:
        """What ``refine`` makes of the class probabilities of an output, (B, C, H, W) float32 without gradient."""
        prob = as_planes(output.logits.detach()).softmax(dim=1)
        found = self._of_pixels(self._verdict(output)[1], prob)
        return regularise(prob, found, closed=self.closed, renormalise=self.renormalise)

    def losses(self, views: StepViews, step: Step) -> dict[str, Tensor]:
        """The supervised loss of the subclasses (Eq. 2), and their self-training (Eq. 5)."""
        logits = views.labeled.coarse[BRANCH]
        label = views.labeled_maps.get(BRANCH)
        supervised = 0.0 * logits.sum() if label is None else self._supervised(logits, label)
        terms = {"subclass": self.weight * supervised}
        if views.strong is not None and views.mixed is not None and self.self_training:
            factor = (
                self.weight * self.unsupervised_weight * sigmoid_ramp(step.index - self.ramp_start, self.ramp_steps)
            )
            terms["subclass_self_training"] = factor * self._self_training(views.strong, views.mixed)
        return terms

    def figures(self) -> dict[str, Tensor]:
        """In steps that examine pseudo-labels: by predicted class, where the branch agrees, is heard, and vetoes."""
        return self._figures

    def _verdict(self, output: NetworkOutput) -> tuple[Tensor, Verdict]:
        """Class probabilities and verdict of each cell."""
        prob, subclass_prob = (as_planes(output.coarse[name].detach()).softmax(dim=1) for name in ("class", BRANCH))
        return prob, verdict(prob, subclass_prob, self.parent, mapping=self.mapping, gate=self.gate)

    def _of_pixels(self, found: Verdict, like: Tensor) -> Verdict:
        """Each pixel has the verdict of its cell, at the size of ``like``."""
        size = (like.shape[2], like.shape[3])
        padded = self._padded(*size)
        return Verdict(*(None if each is None else to_pixels(each, size, padded) for each in found))  # type: ignore[arg-type]

    def _supervised(self, logits: Tensor, label: Tensor) -> Tensor:
        padded = self._padded(label.shape[1], label.shape[2])
        if self.supervised_at == "label":
            return enlarged_cross_entropy(logits, label, padded, ignore_index=self.ignore)
        cells = to_cells(label, (logits.shape[2], logits.shape[3]), padded, outside=self.ignore)
        return cross_entropy(logits, cells, ignore_index=self.ignore)

    def _self_training(self, strong: NetworkOutput, mixed: PseudoTarget) -> Tensor:
        logits = strong.coarse[BRANCH]
        cells = (logits.shape[2], logits.shape[3])
        padded = self._padded(mixed.weight.shape[1], mixed.weight.shape[2])
        valid = torch.ones_like(mixed.weight, dtype=torch.bool) if mixed.valid is None else mixed.valid
        valid = to_cells(valid, cells, padded, outside=False)
        label = to_cells(mixed.maps[BRANCH], cells, padded, outside=self.ignore).where(valid, self.ignore)
        pixel = pixel_cross_entropy(logits, label, ignore_index=self.ignore)
        counted = valid if self.normalize == "all" else label != self.ignore
        return global_mean(pixel.sum(), counted.sum())


def _figures(prob: Tensor, found: Verdict) -> dict[str, Tensor]:
    """(C,) shares of all cells by predicted class; divided by the first, they are shares of the class."""
    classes = prob.shape[1]
    label = prob.max(dim=1).indices
    agrees = found.label == label

    def share(where: Tensor) -> Tensor:
        return pixels_per_class(label.where(where, classes), classes).sum(dim=0) / label.numel()

    return {
        "subclass_predicted": share(torch.ones_like(found.open)),
        "subclass_agrees": share(agrees),
        "subclass_gate_open": share(found.open),
        "subclass_veto": share(found.open & ~agrees),
    }
