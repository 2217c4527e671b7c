"""DeS4: a teacher with a decoder of its own, and prototypes that pixels of all classes and entropies make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.components.base import Component, Mixer
from evenseg.components.mixers import CutMix
from evenseg.components.prototype_update import AlphaSchedule, ProtoStart, PrototypeUpdate
from evenseg.components.supervised_loss import CrossEntropy
from evenseg.components.threshold import Threshold
from evenseg.functional.cells import to_cells
from evenseg.functional.entropy_zones import EmptyZone, ZoneWidth
from evenseg.functional.losses import pixel_cross_entropy, weighted_cross_entropy, weighted_mean
from evenseg.functional.multi_entropy import Estimator, RatioRule, Sampling, Strategy
from evenseg.functional.prototypes import pairwise_cosines
from evenseg.functional.random import side_branch
from evenseg.functional.reweighting import WeightSource, class_mean_loss, confidence_weight
from evenseg.methods.base import Method, ParamGroup, Predictor
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.decoupled import DecoupledTeacher, share_prototypes
from evenseg.networks.ema import EMATeacher
from evenseg.networks.mode import eval_mode
from evenseg.networks.prototypes import PrototypeHead, PrototypeOptions
from evenseg.types import (
    Batch,
    Count,
    DataFacts,
    Fraction,
    LabeledBatch,
    NetworkOutput,
    NonNegative,
    Positive,
    PseudoTarget,
    Size,
    Step,
    StepOutput,
    StepViews,
    UnlabeledBatch,
    ViewSpec,
    ignore_label,
)

PROTOTYPES = "segmentation_head.bank.prototypes"


class DES4(Method):
    """A teacher whose encoder averages the student's and whose decoder learns rare classes; prototypes join the two.

    Paper: Ding, Zhang, Ding, Zhao, Wang, Xing and Hu, "Decoupling with Entropy-based Equalization for Semi-Supervised
    Semantic Segmentation" (DeS4), IJCAI 2023, https://doi.org/10.24963/ijcai.2023/74. There is no official code: what
    the paper leaves open is decided here, each decision an argument (docs/methods/des4.md).

    Args:
        ema_decay: decay of the teacher's encoder, tau 1.
        ema_warmup: at step k (from 0) a decay of at most 1 - 1 / (k + 1).
        teacher_buffers: where the running statistics of the teacher's encoder come from: ``ema``, ``copy`` of the
            student's, or its ``own`` passes, in train mode.
        decouple: train the teacher's decoder (D.T. in Table 3); false: average it too.
        shared_head: the same prototypes for both (S.H.); false: each has its own, of its own features.
        reweight: turn the teacher's loss to pixels it is unsure of (P.R.).
        gamma: power of the re-weighting (Eq. 7).
        reweight_source: unsure by the largest probability (``max``), or by that of the label (``gt``).
        reweight_normalize: weights sum to 1 over an ``image`` or over the ``batch``.
        supervised_weight: of the student's supervised loss, lambda 1.
        unsupervised_weight: of its loss on pseudo-labels, lambda 2.
        reduction: means of the student's losses over pixels (``pixel``), or over classes of their means over the
            class (``class_mean``).
        threshold: confidence that a pseudo-label must reach; 0 in the paper.
        mixer: how two images are mixed; default cutmix.
        student_view: the view of which the student sees mixtures: ``weak`` as in the paper, or ``strong``.
        teacher_unlabeled: train the teacher's decoder on the student's labels of unlabeled images too, with lambda 2.
        teacher_lr: factor of its learning rate.
        eval_decoder_ema: score and export the teacher with an average of its decoder; ``second`` is the trained one.
        temperature: that cosines are divided by; 1 is the paper's formula as printed.
        learn_temperature: by gradient, from there.
        logit_norm: ``layernorm``: normalise the logits of a pixel over the classes.
        dimension: of the prototypes.
        projection: from the decoder to it: ``linear``, or ``mlp``.
        center: subtract the mean prototype before cosines are taken.
        mask_absent: never predict classes without a labeled pixel.
        proto_momentum: of the prototypes, tau 2.
        proto_start: ``simplex``, ``random``, ``first_batch``, ``warmup_mean``; see ``PrototypeUpdate``.
        proto_hold: steps in which the prototypes do not move.
        normalize_features: unit vectors before and after each mean of features.
        correct_only: prototypes follow correctly predicted pixels alone.
        sampling: of the pixels that prototypes follow (Table 4): ``multi_entropy``, ``quantity``, ``confidence``;
            ``all``.
        estimator: draw a ``sample``, or weight every pixel by what it counts in one on average (``weighted``).
        zones: of entropy in each class, k.
        zone_width: zones of ``equal`` width, or with equally many pixels (``quantile``).
        alpha: of Eq. 11; the larger, the more even are the zones.
        alpha_schedule: ``constant``; ``tan``: from 0 to infinity over the run, in its place.
        entropy_norm: divide entropies by log C.
        empty_zone: gets nothing (``skip``), or the share of its centre, from its neighbours (``midpoint``).
        ratio: of its pixels that a class gives: ``inverse`` to its frequency, ``sqrt_inverse``, ``batch_min`` (as many
            as the smallest class in the batch), ``none`` (all).
        min_per_class: pixels of each class in the batch that are drawn at least.
        max_fraction: largest ratio; below 1, zones matter for the rarest class too.
        supervised_loss: of the student: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first, after each of which the teacher's encoder is a copy.
        ramp_steps: steps over which the unlabeled loss then rises.
        data: class frequencies; handed in by the framework.
    """

    views = ViewSpec()

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction = 0.99,
        ema_warmup: bool = True,
        teacher_buffers: Literal["ema", "copy", "own"] = "ema",
        decouple: bool = True,
        shared_head: bool = True,
        reweight: bool = True,
        gamma: NonNegative = 2.0,
        reweight_source: WeightSource = "max",
        reweight_normalize: Literal["image", "batch"] = "image",
        supervised_weight: NonNegative = 1.0,
        unsupervised_weight: NonNegative = 1.5,
        reduction: Literal["pixel", "class_mean"] = "pixel",
        threshold: Fraction = 0.0,
        mixer: Mixer | None = None,
        student_view: Literal["weak", "strong"] = "weak",
        teacher_unlabeled: bool = False,
        teacher_lr: Positive = 1.0,
        eval_decoder_ema: bool = False,
        temperature: Positive = 0.1,
        learn_temperature: bool = False,
        logit_norm: Literal["none", "layernorm"] = "none",
        dimension: Size = 256,
        projection: Literal["linear", "mlp"] = "linear",
        center: bool = False,
        mask_absent: bool = True,
        proto_momentum: Fraction = 0.99,
        proto_start: ProtoStart = "simplex",
        proto_hold: Count = 500,
        normalize_features: bool = True,
        correct_only: bool = False,
        sampling: Strategy = "multi_entropy",
        estimator: Estimator = "sample",
        zones: Size = 5,
        zone_width: ZoneWidth = "equal",
        alpha: NonNegative = 0.1,
        alpha_schedule: AlphaSchedule = "constant",
        entropy_norm: bool = False,
        empty_zone: EmptyZone = "skip",
        ratio: RatioRule = "inverse",
        min_per_class: Count = 1,
        max_fraction: Fraction = 1.0,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
        data: DataFacts,
    ) -> None:
        simplex = proto_start in ("simplex", "warmup_mean")
        if simplex and dimension < network.num_classes:
            raise ValueError(
                f"dimension: a simplex of {network.num_classes} prototypes needs at least as many, not {dimension}; "
                "raise it, or set proto_start to random"
            )
        if reduction == "class_mean" and supervised_loss is not None and type(supervised_loss) is not CrossEntropy:
            raise ValueError("reduction: class_mean is one of the cross-entropy; leave supervised_loss out")
        if not decouple and (teacher_unlabeled or eval_decoder_ema):
            raise ValueError("decouple: without it no decoder of the teacher is trained; leave out what needs one")
        if eval_decoder_ema and teacher_buffers == "own":
            raise ValueError("eval_decoder_ema: goes with teacher_buffers ema or copy, not with own")
        options = PrototypeOptions(
            dimension, temperature, projection, logit_norm, learn_temperature, center, mask_absent
        )
        with side_branch("prototypes"):  # the rest of the network starts as under any other method
            head = network.use_prototypes(options, data.class_frequency)
            head.bank.begin("simplex" if simplex else "random")
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=components,
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        self.teacher: DecoupledTeacher = DecoupledTeacher(
            network, decay=ema_decay, warmup=ema_warmup, buffers=teacher_buffers, decouple=decouple
        )
        if shared_head:
            share_prototypes(self.teacher.network, network)
        self.evaluated: EMATeacher | None = None
        if eval_decoder_ema:
            self.evaluated = EMATeacher(self.teacher.network, decay=ema_decay, warmup=ema_warmup, buffers="ema")
            self.evaluated.network.encoder = self.teacher.network.encoder
            share_prototypes(self.evaluated.network, self.teacher.network)
        banks = ("teacher",) if shared_head else ("teacher", "student")
        self.prototype_updates = nn.ModuleDict(
            {
                name: PrototypeUpdate(
                    network.num_classes,
                    dimension,
                    sampling=Sampling(sampling, estimator, zones, alpha, empty_zone, zone_width),
                    momentum=proto_momentum,
                    ratio=ratio,
                    min_per_class=min_per_class,
                    max_fraction=max_fraction,
                    alpha_schedule=alpha_schedule,
                    entropy_norm=entropy_norm,
                    correct_only=correct_only,
                    normalize=normalize_features,
                    start=proto_start,
                    hold=proto_hold,
                    epoch=math.ceil(data.labeled_images / max(data.labeled_batch, 1)),
                )
                for name in banks
            }
        )
        self.decouple, self.shared_head, self.reweight = decouple, shared_head, reweight
        self.gamma, self.reweight_source = gamma, reweight_source
        self.reweight_normalize: Literal["image", "batch"] = reweight_normalize
        self.supervised_weight, self.unsupervised_weight = supervised_weight, unsupervised_weight
        self.reduction, self.student_view = reduction, student_view
        self.threshold = Threshold(threshold, weighting="pixel" if threshold > 0 else "none")
        self.mixer = mixer or CutMix()
        self.teacher_unlabeled, self.teacher_lr = teacher_unlabeled, teacher_lr
        self.views = ViewSpec(strong=1 if student_view == "strong" else 0)

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """1 where the threshold is reached, else 0; without one always 1."""
        return self.threshold.weigh(target, confidence)

    def ema_step(self, step_index: int) -> int:
        """From the first step with unlabeled images on; before, the encoder is copied."""
        return max(step_index - self.supervised_steps, 0)

    def networks(self) -> list[SegmentationNetwork]:
        """Student, teacher, and where there is one, the teacher with an averaged decoder."""
        found = [self.student, self.teacher.network]
        return found if self.evaluated is None else [*found, self.evaluated.network]

    def predictors(self) -> dict[str, nn.Module]:
        """The student and the teacher, which with an averaged decoder is another than the one that is trained."""
        roles: dict[str, nn.Module] = {"student": Predictor(self.student)}
        if self.evaluated is None:
            return {**roles, "teacher": Predictor(self.teacher.network)}
        return {**roles, "second": Predictor(self.teacher.network), "teacher": Predictor(self.evaluated.network)}

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """All networks take all; of a network with a linear classifier, all but that."""
        for network in self.networks():
            own = network.state_dict()
            head = {name: value for name, value in own.items() if name.startswith("segmentation_head.")}
            taken = weights
            if PROTOTYPES not in weights:
                taken = {name: value for name, value in weights.items() if not name.startswith("segmentation_head.")}
                taken = {**taken, **head}
            network.load_state_dict(taken)

    def param_groups(self) -> list[ParamGroup]:
        """``encoder`` and ``head`` of the student, and the ``teacher``'s decoder."""
        own = [p for p in self.teacher.parameters() if p.requires_grad]
        known = {id(p) for p in own}
        groups = [
            group._replace(parameters=[p for p in group.parameters if id(p) not in known])
            for group in super().param_groups()
        ]
        return [*groups, ParamGroup("teacher", own, self.teacher_lr)]

    def on_step_end(self, step: Step) -> None:
        """The teacher's encoder follows the student's (Eq. 5), and the averaged decoder the teacher's."""
        super().on_step_end(step)
        if self.evaluated is not None:
            self.evaluated.update(self.teacher.network, self.ema_step(step.index))

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """L_ub + lambda 1 L_b + lambda 2 L_u (Eq. 4), then the prototypes' update (Eq. 9-12)."""
        label = batch.labeled.label
        if batch.unlabeled is None:
            views = StepViews(label, self.student(batch.labeled.image))
        else:
            views = self._learn(batch.labeled, batch.unlabeled, step)
        losses = self._supervised(views.labeled, label)  # Eq. 1
        log: dict[str, Tensor] = {}
        if batch.unlabeled is not None:
            losses["unsupervised"], log = self._unsupervised(views, step)  # Eq. 3
        of_teacher = self.teacher.labeled(batch.labeled.image)
        if self.decouple:
            losses["teacher"] = self._balanced(of_teacher.logits, label)  # Eq. 8
            if self.teacher_unlabeled and batch.unlabeled is not None:
                factor = self.ramp(step) * self.unsupervised_weight
                losses["teacher_unlabeled"] = factor * self._from_student(batch.unlabeled)
        self._follow("teacher", self.teacher.network, of_teacher, label, step)
        if not self.shared_head:
            self._follow("student", self.student, views.labeled, label, step)
        views = views._replace(labeled_teacher=of_teacher.detach())
        return self.finish(losses, log | self._cosines(), views, step)

    def _learn(self, labeled: LabeledBatch, unlabeled: UnlabeledBatch, step: Step) -> StepViews:
        """The teacher's labels of the weak view, and the student on labeled images and mixtures in one pass."""
        weak = self.teacher(unlabeled.weak)
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        seen = unlabeled.strong[0] if self.student_view == "strong" else unlabeled.weak
        with torch.no_grad():
            image, mixed = self.mixer(seen, target, step, index=unlabeled.index)
        output: NetworkOutput = self.student(torch.cat([labeled.image, image]))
        own, strong = output.split(len(labeled.image))
        mixed = self.select(self.weigh(mixed), strong, step)
        return StepViews(labeled.label, own, weak, target, strong, mixed, image)

    def _supervised(self, labeled: NetworkOutput, label: Tensor) -> dict[str, Tensor]:
        losses = self.supervised_losses(labeled, label)
        if self.reduction == "class_mean":
            pixel = pixel_cross_entropy(labeled.logits, label, ignore_index=ignore_label(labeled.logits.shape[1]))
            losses["supervised"] = class_mean_loss(pixel, label, torch.ones_like(pixel), labeled.logits.shape[1])
        return {name: self.supervised_weight * value for name, value in losses.items()}

    def _unsupervised(self, views: StepViews, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The student against the mixed labels, and what there is to log of these."""
        assert views.strong is not None
        assert views.mixed is not None
        confidence, label = views.mixed.hard()
        label, logits = views.mixed.only_valid(label), self.adjusted(views.strong.logits, step)
        ignore = ignore_label(logits.shape[1])
        if self.reduction == "class_mean":
            pixel = pixel_cross_entropy(logits, label, ignore_index=ignore)
            loss = class_mean_loss(pixel, label, views.mixed.weight, logits.shape[1])
        else:
            loss = weighted_cross_entropy(logits, label, views.mixed.weight, ignore_index=ignore, normalize="valid")
        log = {"confidence": confidence.mean(), "weight": views.mixed.weight.mean()}
        return self.ramp(step) * self.unsupervised_weight * loss, log

    def _balanced(self, logits: Tensor, label: Tensor) -> Tensor:
        """The teacher's loss, by how unsure it is (Eq. 7-8): a mean over images with a label."""
        ignore = ignore_label(logits.shape[1])
        pixel = pixel_cross_entropy(logits, label, ignore_index=ignore)
        weight = confidence_weight(
            logits,
            pixel,
            label,
            gamma=self.gamma if self.reweight else 0.0,
            source=self.reweight_source,
            normalize=self.reweight_normalize,
            ignore_index=ignore,
        )
        return weighted_mean(pixel, weight, label != ignore, normalize=self.reweight_normalize, empty_images="skip")

    def _from_student(self, unlabeled: UnlabeledBatch) -> Tensor:
        """The teacher's decoder against the student's labels of the weak view."""
        with torch.no_grad(), eval_mode(self.student):
            target = PseudoTarget.from_logits(self.student(unlabeled.weak).logits, unlabeled.valid)
        logits = self.teacher.labeled(unlabeled.weak).logits
        ignore = ignore_label(logits.shape[1])
        _, label = target.hard()
        return weighted_cross_entropy(
            logits, target.only_valid(label), target.weight, ignore_index=ignore, normalize="valid"
        )

    def _follow(
        self, name: str, network: SegmentationNetwork, output: NetworkOutput, label: Tensor, step: Step
    ) -> None:
        """The prototypes of a network follow its embedding of the labeled images."""
        embedding, logits = output.features["embedding"], output.coarse["class"]
        height, width = embedding.shape[
            2:
        ]  # of the cells that cover the image; the logits' cells cover its padding too
        padded = network.padded_size(label.shape[1], label.shape[2])
        cells = to_cells(label, (logits.shape[2], logits.shape[3]), padded, outside=ignore_label(logits.shape[1]))
        update = self.prototype_updates[name]
        update(self._head(network).bank, embedding, logits[..., :height, :width], cells[:, :height, :width], step)

    def _cosines(self) -> dict[str, Tensor]:
        """How near the prototypes are to each other: the mean of all pairs, and the nearest of each."""
        bank = self._head(self.teacher.network).bank
        mean, nearest = pairwise_cosines(bank.prototypes, bank.class_pixels > 0)
        return {"prototype_cosine": mean, "prototype_nearest": nearest}

    @staticmethod
    def _head(network: SegmentationNetwork) -> PrototypeHead:
        assert isinstance(network.segmentation_head, PrototypeHead)
        return network.segmentation_head
