"""Cross pseudo supervision: two networks that start differently teach each other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from evenseg.components import base as fold
from evenseg.components.base import Component, Mixer
from evenseg.functional.losses import weighted_cross_entropy
from evenseg.functional.random import side_branch
from evenseg.methods.base import Method, Predictor
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.mode import eval_mode
from evenseg.networks.twin import twin
from evenseg.types import (
    Batch,
    Count,
    LabeledBatch,
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

LABELED = 1 << 33  # added to the slot of a labeled image in the keys of its pseudo-label's draws
MIXER = {"name": "cutmix", "boxes": 3, "area": [0.25, 0.5]}


class CPS(Method):
    """Two networks of one architecture, each taught by the labels that the other predicts.

    Paper: Chen, Yuan, Zeng and Wang, "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", CVPR
    2021, https://arxiv.org/abs/2106.01226. Official code: https://github.com/charlesCXK/TorchSemiSeg (exp.voc and
    exp.city, CPS and CPS+CutMix; commit 0c10bf0).

    Deviations: means over pixels are those of all processes and leave out pixels beyond the unlabeled images; with
    a mixer, partners are neighbours in one batch, not two batches; one optimiser has both networks, by which
    ``train.clip_norm`` clips them together. Presets: ``official`` (VOC), ``cutmix`` (VOC), ``cityscapes``,
    ``cityscapes_cutmix``.

    The second network is drawn from a seed of its own, so that the first starts like that of any other method; with
    pretrained weights both start from one encoder. The first is scored, exported, and the headline (``student``);
    the other is ``second``. Components act in both directions: their heads exist in both networks and have their
    losses twice, but statistics are those of the first network's direction alone.

    Args:
        unsupervised_weight: of the cross pseudo supervision, lambda in the paper.
        mixer: how two unlabeled images are mixed; default: not at all, and one pass labels and learns.
        labeled_consistency: cross pseudo supervision on the labeled images too; null: unless a mixer is given.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
        supervised_steps: purely supervised steps first.
        ramp_steps: steps over which the unlabeled loss then rises.
    """

    views = ViewSpec()
    strong_apart = True
    presets = {  # noqa: RUF012
        "official": {"unsupervised_weight": 1.5},
        "cutmix": {"unsupervised_weight": 1.0, "mixer": MIXER},
        "cityscapes": {"unsupervised_weight": 6.0},
        "cityscapes_cutmix": {"unsupervised_weight": 5.0, "mixer": MIXER},
    }

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        unsupervised_weight: NonNegative = 1.5,
        mixer: Mixer | None = None,
        labeled_consistency: bool | None = None,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: Count = 0,
        ramp_steps: Count = 0,
    ) -> None:
        unattached = copy.deepcopy(list(components))
        super().__init__(
            network,
            supervised_loss=supervised_loss,
            components=components,
            supervised_steps=supervised_steps,
            ramp_steps=ramp_steps,
        )
        self.unsupervised_weight = unsupervised_weight
        self.mixer = mixer or Mixer()
        self.labeled_consistency = not self.mixes if labeled_consistency is None else labeled_consistency
        with side_branch("second network"):
            self.second = twin(network)
            for component in unattached:  # a component attaches once; these copies leave their heads and are gone
                component.attach(self.second)

    @property
    def mixes(self) -> bool:
        """Whether the networks learn from mixtures, which takes passes of their own."""
        return type(self.mixer) is not Mixer

    def networks(self) -> list[SegmentationNetwork]:
        """Both networks."""
        return [self.student, self.second]

    def labeler(self) -> nn.Module:
        """The second network, which teaches the student."""
        return self.second

    def predictors(self) -> dict[str, nn.Module]:
        """Both networks; the headline is the student, as in the paper."""
        return {"second": Predictor(self.second), "student": Predictor(self.student)}

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """The student takes all, the second network the encoder: two equal networks would have nothing to teach."""
        self.student.load_state_dict(weights)
        self.second.encoder.load_state_dict(self.student.encoder.state_dict())

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Both supervised losses + weight * both directions of cross pseudo supervision."""
        label = batch.labeled.label
        labeled: NetworkOutput = self.second(batch.labeled.image)
        of_second = dict(_of_second(self.supervised_losses(labeled, label)))
        second = StepViews(label, labeled, log_prob=self._log_prob, labeled_maps=self._labeled_maps)
        labeled, losses = self.supervised(batch)  # last: what ``finish`` tells components of the label is the student's
        first = StepViews(label, labeled)
        log: dict[str, Tensor] = {}
        if batch.unlabeled is not None:
            weak, of_other = self._weak(batch.unlabeled.weak)
            first = self._learn(self.student, weak, of_other, first, batch.unlabeled, step)
            with eval_mode(self.components):
                second = self._learn(self.second, of_other, weak, second, batch.unlabeled, step, known=True)
            to_first, confidence = self._cross(first, second.labeled, batch.labeled, step)
            to_second, _ = self._cross(second, first.labeled, batch.labeled, step)
            losses["unsupervised"] = self.ramp(step) * self.unsupervised_weight * (to_first + to_second)
            assert first.mixed is not None
            log = {"confidence": confidence.mean(), "weight": first.mixed.weight.mean()}
        with eval_mode(self.components):
            extra = dict(_of_second(fold.extra_losses(self._components(), second, step)))
        return self.finish({**losses, **of_second, **extra}, log, first, step)

    def _weak(self, image: Tensor) -> tuple[NetworkOutput, NetworkOutput]:
        """Both networks on the weak view; with gradient where the same pass is to learn."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.mixes):
            return self.student(image), self.second(image)

    def _learn(
        self,
        learner: SegmentationNetwork,
        own: NetworkOutput,
        other: NetworkOutput,
        views: StepViews,
        unlabeled: UnlabeledBatch,
        step: Step,
        *,
        known: bool = False,
    ) -> StepViews:
        """What one network is taught of the unlabeled images, and says of them.

        ``own`` and ``other`` are the two networks' outputs on the weak view. known: the mixer has been told of these
        images in this step.
        """
        weak = other.detach()
        target = self.refine(PseudoTarget.from_logits(weak.logits, unlabeled.valid), weak, step)
        if not self.mixes:
            target = self.select(target, own, step)
            return views._replace(weak=weak, target=target, strong=own, mixed=target, image=unlabeled.weak)
        with torch.no_grad():
            image, mixed = self.mixer(unlabeled.weak, target, step, index=None if known else unlabeled.index)
        strong: NetworkOutput = learner(image, strong=True)
        mixed = self.select(mixed, strong, step)
        return views._replace(weak=weak, target=target, strong=strong, mixed=mixed, image=image)

    def _cross(self, views: StepViews, other: NetworkOutput, batch: LabeledBatch, step: Step) -> tuple[Tensor, Tensor]:
        """Cross-entropy of one network against the other's labels, and their confidence on the unlabeled images.

        ``other`` is the other network's output on the labeled images.
        """
        assert views.strong is not None
        assert views.mixed is not None
        confidence, label = views.mixed.hard()
        logits = [self.adjusted(views.strong.logits, step)]
        labels, weights = [views.mixed.only_valid(label)], [views.mixed.weight]
        if self.labeled_consistency:
            target = self._on_labeled(views.labeled, other, batch, step)
            logits.append(self.adjusted(views.labeled.logits, _on_labeled_slots(step)))
            labels.append(target.label)
            weights.append(target.weight)
        ignore = ignore_label(views.mixed.prob.shape[1])
        loss = weighted_cross_entropy(
            torch.cat(logits), torch.cat(labels), torch.cat(weights), ignore_index=ignore, normalize="valid"
        )
        return loss, confidence

    def _on_labeled(self, own: NetworkOutput, other: NetworkOutput, batch: LabeledBatch, step: Step) -> PseudoTarget:
        """The other network's opinion of the labeled images, of all pixels; components keep their statistics."""
        step = _on_labeled_slots(step)
        other = other.detach()
        everywhere = torch.ones_like(batch.label, dtype=torch.bool)
        with eval_mode(self.components):
            target = self.refine(PseudoTarget.from_logits(other.logits, everywhere), other, step)
            return self.select(target, own, step)

    def _pseudo_labeled(self, batch: LabeledBatch) -> Tensor:
        """Both networks learn from images that were labeled before."""
        second = self.pseudo_labeled_loss(self.second(batch.image), batch.label, self.supervised_loss)
        return super()._pseudo_labeled(batch) + second


def _on_labeled_slots(step: Step) -> Step:
    """The step for what is drawn for labeled images as if they were unlabeled."""
    return step._replace(unlabeled_slot=LABELED + step.labeled_slot)


def _of_second(losses: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The losses under the second network's names."""
    return ((f"{name}_second", value) for name, value in losses.items())
