"""The central types: what travels between data, methods, components and training.

All are ``NamedTuple``s, which collation, pinning, DDP and precision plugins take apart and put
together again. Shapes: B images, C classes, H x W pixels.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from evenseg.planes import as_planes, largest_plane

# Ranges for constructor signatures: the signature is the schema the command line validates against.
Fraction = Annotated[float, Interval(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Ge(0.0)]
Positive = Annotated[float, Gt(0.0)]
Count = Annotated[int, Ge(0)]
Size = Annotated[int, Ge(1)]


def ignore_label(num_classes: int) -> int:
    """The label of pixels without a class: 255, or 65535 where 255 is itself a class id."""
    return 255 if num_classes <= 255 else 65535


class PasteSource(NamedTuple):
    """A second labeled image for each labeled one, to paste from.

    image: (B, 3, H, W) float in [0, 1]. label: (B, H, W) int64; the ignore label everywhere where nothing
    is to be pasted. index: (B,) int64, position in the labeled list. maps: further label maps by name.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    maps: dict[str, Tensor] = {}  # noqa: RUF012 - an empty default that nobody writes to


class LabeledBatch(NamedTuple):
    """Labeled images.

    image: (B, 3, H, W) float in [0, 1]. label: (B, H, W) int64, 255 = ignore.
    index: (B,) int64, position in the labeled list. maps: further (B, H, W) label maps by name.
    paste: second images, where the method asks for them.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # as above
    maps: dict[str, Tensor] = {}  # noqa: RUF012 - as above
    paste: PasteSource | None = None


class UnlabeledBatch(NamedTuple):
    """Unlabeled images in pixel-aligned views.

    weak: (B, 3, H, W) float in [0, 1]. strong: views of the same shape. valid: (B, H, W) bool,
    False where the view reaches beyond the image. index: (B,) int64, position in the unlabeled list.
    maps: label maps by name (the truth of synthetic data, for instance). Where a method asks for mixing
    partners, B is twice the number of slots: the second half are the partners of the first.
    """

    weak: Tensor
    strong: tuple[Tensor, ...]
    valid: Tensor
    index: Tensor  # type: ignore[assignment]  # as above
    maps: dict[str, Tensor] = {}  # noqa: RUF012 - as above


class Batch(NamedTuple):
    """What a method is given in a step.

    unlabeled: None in purely supervised steps. pseudo_labeled: images with labels that a network has made, None in
    runs without; ``index`` is their position in a list of their own.
    """

    labeled: LabeledBatch
    unlabeled: UnlabeledBatch | None = None
    pseudo_labeled: LabeledBatch | None = None


class Step(NamedTuple):
    """Where training stands, and the only randomness a method may use.

    index: 0-based step of ``total``. generator: CPU generator seeded from (seed, index), equal on
    all ranks, for draws of the step as a whole. Draws that belong to a sample are keyed by
    (seed, index, global slot), see ``functional.random``; ``labeled_slot`` and ``unlabeled_slot``
    are the global slots of the first image of this rank's micro-batch. health: whether the
    pseudo-labels of this step are examined, which changes nothing but the log. picture: whether the step
    returns what the student saw.
    """

    index: int  # type: ignore[assignment]  # as above
    total: int
    generator: torch.Generator
    seed: int = 0
    labeled_slot: int = 0
    unlabeled_slot: int = 0
    health: bool = False
    picture: bool = False


class NetworkOutput(NamedTuple):
    """logits: (B, C, H, W) at input size. features: ``low``, ``high``, ``decoder`` maps.
    heads: outputs of the extra heads by name, at input size; ``perturbed`` are logits of a second pass of the decoder,
    where one was made. coarse: logits (B, K, h, w) at the decoder's size, also of the cells that the image was padded
    with: those of ``class``, and those of the network's branches by name."""

    logits: Tensor
    features: dict[str, Tensor] = {}  # noqa: RUF012 - as above
    heads: dict[str, Tensor] = {}  # noqa: RUF012 - as above
    coarse: dict[str, Tensor] = {}  # noqa: RUF012 - as above

    def split(self, images: int) -> tuple[NetworkOutput, NetworkOutput]:
        """What belongs to the first ``images`` of the batch, and to the others; their gradients are put side by side,
        where those of slices would each be filled up with zeros and added."""
        parts = [{name: _divided(value, images) for name, value in each.items()} for each in self[1:]]
        logits = _divided(self.logits, images)
        first, second = ([{k: v[i] for k, v in each.items()} for each in parts] for i in (0, 1))
        return NetworkOutput(logits[0], *first), NetworkOutput(logits[1], *second)

    def detach(self) -> NetworkOutput:
        """The same without gradient."""
        parts = ({name: value.detach() for name, value in each.items()} for each in self[1:])
        return NetworkOutput(self.logits.detach(), *parts)


def _divided(value: Tensor, images: int) -> tuple[Tensor, ...]:
    return torch.split(value, [images, len(value) - images])


class PseudoTarget(NamedTuple):
    """A teacher's opinion.

    prob: (B, C, H, W) float32 without gradient, sums to 1 over C, to less where a component has ruled out classes.
    weight: (B, H, W) float32 >= 0, 0 where the pixel teaches nothing. valid: (B, H, W) bool, the pixels inside
    the images, which means over pixels are taken over; None: all of them. truth: (B, H, W) int64, for the log alone, in
    steps that examine pseudo-labels and where it is known. maps: further (B, H, W) labels by name, which components
    leave for themselves and mixers mix.
    """

    prob: Tensor
    weight: Tensor
    valid: Tensor | None = None
    truth: Tensor | None = None
    maps: dict[str, Tensor] = {}  # noqa: RUF012 - as above

    @classmethod
    def from_logits(cls, logits: Tensor, valid: Tensor) -> PseudoTarget:
        """Softmax of (B, C, H, W) logits in float32; weight 1 where ``valid`` (B, H, W), else 0."""
        return cls(as_planes(logits.detach()).softmax(dim=1), valid.float(), valid)

    def hard(self) -> tuple[Tensor, Tensor]:
        """Confidence (B, H, W) float32 in [1/C, 1] and label (B, H, W) int64, in one pass."""
        return largest_plane(self.prob)

    def only_valid(self, label: Tensor) -> Tensor:
        """``label`` (B, H, W) with the ignore label outside ``valid``."""
        return label if self.valid is None else label.where(self.valid, ignore_label(self.prob.shape[1]))

    @property
    def confidence(self) -> Tensor:
        """Largest probability of each pixel, (B, H, W)."""
        return self.hard()[0]

    @property
    def label(self) -> Tensor:
        """Most probable class of each pixel, (B, H, W) int64."""
        return self.hard()[1]


class StepViews(NamedTuple):
    """What a step has computed, for components. Absent parts are None.

    labeled, weak, strong: network outputs on the labeled images (student, with gradient), the weak
    view (no gradient) and the strong view after mixing (student, with gradient). label: (B, H, W).
    target: the refined pseudo target of the weak view; mixed: the same after the mixer. image: the
    (B, 3, H, W) images that ``strong`` is the output on. log_prob: (B, H, W) float32 without gradient, log
    probability of the label on the labeled images, 0 where it is ignored, if the loss has computed it.
    labeled_teacher: the teacher's output on the labeled images, where the method asks for it. labeled_maps: further
    (B, H, W) label maps of the labeled images by name.
    """

    label: Tensor
    labeled: NetworkOutput
    weak: NetworkOutput | None = None
    target: PseudoTarget | None = None
    strong: NetworkOutput | None = None
    mixed: PseudoTarget | None = None
    image: Tensor | None = None
    log_prob: Tensor | None = None
    labeled_teacher: NetworkOutput | None = None
    labeled_maps: dict[str, Tensor] = {}  # noqa: RUF012 - as above

    @property
    def ignore_index(self) -> int:
        """The label of pixels without a class."""
        return ignore_label(self.labeled.logits.shape[1])


class Seen(NamedTuple):
    """What the student was taught of the unlabeled images: image (B, 3, H, W) in [0, 1]; label (B, H, W) int64, its
    pseudo-labels, the ignore label where the pixel has no weight."""

    image: Tensor
    label: Tensor


class StepOutput(NamedTuple):
    """losses: weighted scalars, summed by the trainer. log: detached tensors, scalars or (C,) vectors of a figure of
    each class. seen: in steps that are to return it, where unlabeled images took part."""

    losses: dict[str, Tensor]
    log: dict[str, Tensor]
    seen: Seen | None = None


class PasteSpec(NamedTuple):
    """How second labeled images are drawn: for which share of the labeled ones, at which scales.

    scale: smallest and largest, around 1; half of the draws lie below 1, half above, uniform on either side.
    """

    probability: float
    scale: tuple[float, float]


class ViewSpec(NamedTuple):
    """Which views a method asks for: of unlabeled images none, or weak plus ``strong`` ones.

    partners: for each unlabeled image a second one of the whole set, to be mixed with. paste: for labeled images
    a second one to paste from.
    """

    strong: int = 0
    unlabeled: bool = True
    partners: bool = False
    paste: PasteSpec | None = None


class DataFacts(NamedTuple):
    """What a method may know of the data it will be trained on, handed to constructors with a parameter ``data``.

    class_names: C of them. class_frequency: (C,) int64, labeled pixels of each class. labeled_images,
    unlabeled_images: length of the lists. labeled_batch, unlabeled_batch: images per step over all ranks.
    presence: (C, labeled_images) bool, which labeled image shows which class; None where only the networks of a
    finished run are wanted. subclass_counts: (C,) int64, subclasses of each class, in runs with ``data.subclasses``.
    """

    class_names: tuple[str, ...]
    class_frequency: Tensor
    labeled_images: int
    unlabeled_images: int
    labeled_batch: int
    unlabeled_batch: int
    presence: Tensor | None = None
    subclass_counts: Tensor | None = None
