"""Contrast between pixels of labeled and unlabeled images on a projection head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.components.base import Component
from evenseg.functional.anchors import Anchors, sample_anchors
from evenseg.functional.contrast import pixel_contrast
from evenseg.functional.distributed import concatenate_over_ranks, rank
from evenseg.functional.random import slot_noise
from evenseg.functional.schedules import sigmoid_ramp
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.heads import ProjectionHead
from evenseg.types import Count, NetworkOutput, NonNegative, Positive, PseudoTarget, Step, StepViews

HEAD = "projection"
Source = Literal["both", "labeled", "unlabeled"]


class _Set(NamedTuple):
    """What one set of images brings in: embeddings (N, D) and (M, D), their classes (N,) and (M,), negative for
    padding. own: whether key i is the embedding of anchor i's pixel, and no positive of it."""

    anchor: Tensor
    anchor_class: Tensor
    key: Tensor
    key_class: Tensor
    own: bool


class PixelContrast(Component):
    """Pulls embeddings of a class together and pushes classes apart, across images and across both sets.

    Anchors are the student's embeddings at a fixed number of pixels per class and image, half of them pixels that
    it gets wrong (labeled) or on which it differs from the teacher (unlabeled). Keys are the teacher's embeddings of
    unlabeled and the student's own, without gradient, of labeled images (the teacher's where a method passes those
    to it too), of all processes. Unlabeled pixels without weight take no part. Where a method mixes images and does
    not undo it, anchors lie in the mixtures and keys in the weak views, each drawn for itself.

    In steps without unlabeled images the term is zero, unless ``warmup`` is set.

    Source: Zhou et al., "C3-SemiSeg", ICCV 2021, Section 3.3, Eq. 3 and 5.

    Args:
        weight: of the loss term.
        temperature: of the similarity.
        base_temperature: multiplies the term by temperature / base_temperature, as the official code does with 0.1.
        anchors: pixels per class and image.
        sampling: ``segmentation``: half of them hard; ``random``: any.
        source: the set whose pixels are anchors and keys.
        small_groups: classes with no more pixels in an image than ``anchors``, at the resolution of the features:
            left out (``strict``) or taken with what they have (``variable``).
        skip_classes: classes that take no part.
        include_self: count the teacher's embedding of the anchor's own pixel as a positive.
        gather: keys of all processes; false: of each process alone.
        warmup: contrast labeled pixels in purely supervised steps too; the student's keys then have a gradient,
            unless they are gathered.
        ramp_steps: steps over which the weight rises.
        ramp_start: step at which it begins to.
        max_classes: of one image that take part; where there are more, those with the most pixels.
        dimension: of the embeddings.
    """

    def __init__(
        self,
        weight: NonNegative = 0.1,
        *,
        temperature: Positive = 0.15,
        base_temperature: Positive | None = None,
        anchors: Count = 20,
        sampling: Literal["segmentation", "random"] = "segmentation",
        source: Source = "both",
        small_groups: Literal["strict", "variable"] = "strict",
        skip_classes: Sequence[Count] = (),
        include_self: bool = False,
        gather: bool = True,
        warmup: bool = False,
        ramp_steps: Count = 0,
        ramp_start: Count = 0,
        max_classes: Count = 32,
        dimension: Count = 256,
    ) -> None:
        super().__init__()
        self.weight = weight * (temperature / base_temperature if base_temperature else 1.0)
        self.temperature, self.anchors, self.sampling, self.source = temperature, anchors, sampling, source
        self.small_groups, self.skip_classes, self.include_self = small_groups, tuple(skip_classes), include_self
        self.gather, self.warmup, self.ramp_steps, self.ramp_start = gather, warmup, ramp_steps, ramp_start
        self.max_classes, self.dimension, self.num_classes = max_classes, dimension, 0

    def attach(self, network: nn.Module) -> None:
        """Add the projection head to the encoder's last map, at its resolution."""
        assert isinstance(network, SegmentationNetwork)
        head = ProjectionHead(network.channels["high"], self.dimension)
        network.add_head(HEAD, head, on="high", upsample=False)
        self.num_classes = network.num_classes

    def losses(self, views: StepViews, step: Step) -> dict[str, Tensor]:
        """The contrast, weighted."""
        idle = 0.0 * views.labeled.heads[HEAD].sum()  # the head has a gradient in every step
        warmup = views.strong is None or views.mixed is None
        if self.weight == 0 or (warmup and not self.warmup):
            return {"contrast": idle}
        sets = [self._labeled(views, step)] if warmup or self.source != "unlabeled" else []
        if not warmup and self.source != "labeled":
            sets.append(self._unlabeled(views, step))
        key, key_class = torch.cat([each.key for each in sets]), torch.cat([each.key_class for each in sets])
        first = 0
        if self.gather:
            first = rank() * len(key)
            key, key_class = concatenate_over_ranks(key), concatenate_over_ranks(key_class)
        loss = pixel_contrast(
            torch.cat([each.anchor for each in sets]),
            torch.cat([each.anchor_class for each in sets]),
            key,
            key_class,
            temperature=self.temperature,
            own_key=_own_keys(sets, first),
            key_gradient=warmup and not self.gather,
        )
        return {"contrast": self.weight * sigmoid_ramp(step.index - self.ramp_start, self.ramp_steps) * loss + idle}

    def _labeled(self, views: StepViews, step: Step) -> _Set:
        """Labeled pixels; hard where the student is wrong."""
        feature = views.labeled.heads[HEAD]
        label = _shrink(views.label.unsqueeze(1), feature).squeeze(1).long()
        anchors = self._sample(label, views.labeled, step, step.labeled_slot, "labeled")
        anchor = _rows(feature, anchors)
        if views.labeled_teacher is None:
            return _Set(anchor, anchors.label.flatten(), anchor, anchors.label.flatten(), own=True)
        key = _rows(views.labeled_teacher.heads[HEAD], anchors)
        return _Set(anchor, anchors.label.flatten(), key, anchors.label.flatten(), own=not self.include_self)

    def _unlabeled(self, views: StepViews, step: Step) -> _Set:
        """Confident unlabeled pixels; hard where student and teacher differ."""
        assert views.weak is not None
        assert views.target is not None
        assert views.strong is not None
        assert views.mixed is not None
        feature, of_teacher = views.strong.heads[HEAD], views.weak.heads[HEAD]
        label = _confident_label(views.mixed, feature)
        anchors = self._sample(label, views.strong, step, step.unlabeled_slot, "unlabeled")
        aligned = views.mixed is views.target  # the student's pixels are the teacher's
        keys = anchors
        if not aligned:
            own_label = _confident_label(views.target, of_teacher)
            keys = self._sample(own_label, None, step, step.unlabeled_slot, "keys", slots=len(feature))
        return _Set(
            _rows(feature, anchors),
            anchors.label.flatten(),
            _rows(of_teacher, keys),
            keys.label.flatten(),
            own=aligned and not self.include_self,
        )

    def _sample(
        self,
        label: Tensor,
        student: NetworkOutput | None,
        step: Step,
        slot: int,
        stream: str,
        *,
        slots: int | None = None,
    ) -> Anchors:
        """Positions of (B, h, w) labels; ``student``: whose other opinion makes a pixel hard. slots: images of this
        process that have a slot; the others are their partners."""
        hard = None
        if student is not None and self.sampling == "segmentation":
            logits = student.logits.detach()
            if logits.shape[-2:] != label.shape[-2:]:  # the inverse of how the network enlarges them
                logits = F.interpolate(logits, size=label.shape[-2:], mode="bilinear", align_corners=True)
            hard = (logits.max(dim=1).indices != label).flatten(1)
        for skipped in self.skip_classes:
            label = label.masked_fill(label == skipped, -1)
        flat = label.flatten(1)
        slots = slots or len(flat)
        streams = [f"contrast {stream}", f"contrast {stream} of partners"][: len(flat) // slots]
        noise = [
            slot_noise(step.seed, step.index, slot, slots, flat.shape[1], stream=each, device=flat.device)
            for each in streams
        ]
        return sample_anchors(
            flat,
            hard,
            torch.cat(noise),
            num_classes=self.num_classes,
            quota=self.anchors,
            small_groups=self.small_groups,
            max_classes=self.max_classes,
        )


def _shrink(value: Tensor, feature: Tensor) -> Tensor:
    """(B, K, H, W) at the resolution of a feature, one pixel of each cell; float32."""
    height, width = feature.shape[-2:]
    # rows first: few pixels scattered over many planes are slow to read
    rows = F.interpolate(value.float(), size=(height, value.shape[-1]), mode="nearest")
    return F.interpolate(rows, size=(height, width), mode="nearest")


def _confident_label(target: PseudoTarget, feature: Tensor) -> Tensor:
    """(B, h, w) labels of a target at the resolution of a feature, -1 where it has no weight."""
    kept = target.weight > 0 if target.valid is None else (target.weight > 0) & target.valid
    label = _shrink(target.prob, feature).max(dim=1).indices
    return label.where(_shrink(kept.unsqueeze(1), feature).squeeze(1) > 0, -1)


def _rows(feature: Tensor, anchors: Anchors) -> Tensor:
    """(B * R, D) embeddings of a (B, D, h, w) map at chosen positions."""
    pixels = feature.permute(0, 2, 3, 1).flatten(1, 2)
    return pixels.gather(1, anchors.position.unsqueeze(2).expand(-1, -1, pixels.shape[2])).flatten(0, 1)


def _own_keys(sets: Sequence[_Set], first: int) -> Tensor:
    """(N,) int64: where each anchor's own key is, from key ``first`` of the process on; -1 for none."""
    found = []
    for each in sets:
        index = torch.arange(first, first + len(each.anchor), device=each.anchor.device)
        found.append(index if each.own else torch.full_like(index, -1))
        first += len(each.key)
    return torch.cat(found)
