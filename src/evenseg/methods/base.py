"""What a method is: a module that turns a batch into losses and owns all that it remembers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from evenseg.components import base as fold
from evenseg.components.base import Component, Mixer
from evenseg.components.pseudo_labeled_loss import PseudoLabeledLoss
from evenseg.components.requests import Requests
from evenseg.components.supervised_loss import CrossEntropy, PixelLoss
from evenseg.errors import InputError
from evenseg.functional.losses import pixel_cross_entropy
from evenseg.functional.schedules import sigmoid_ramp
from evenseg.methods import examine
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.types import (
    Batch,
    LabeledBatch,
    NetworkOutput,
    PseudoTarget,
    Seen,
    Step,
    StepOutput,
    StepViews,
    ViewSpec,
    ignore_label,
)


class ParamGroup(NamedTuple):
    """Parameters that share a learning rate: ``lr`` times the configured one of their kind."""

    name: str
    parameters: list[nn.Parameter]
    lr: float


class Predictor(nn.Module):
    """A network as a function from images (B, 3, H, W) in [0, 1] to logits (B, C, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Logits at input size."""
        logits: Tensor = self.network(image, extras=False).logits
        return logits


class Method(nn.Module):
    """Base class of all methods. Subclasses define ``training_step`` and, if they have one, a teacher.

    Args:
        network: the student, already with random or loaded weights.
        supervised_loss: module (logits, label) -> scalar; default cross-entropy.
        components: pieces added to the method, in the order of the fold.
        supervised_steps: purely supervised steps before the unlabeled images are used.
        ramp_steps: steps over which the unlabeled losses then rise (``sigmoid_ramp``); 0 for none.
    """

    views: ViewSpec = ViewSpec(unlabeled=False)
    strong_apart: ClassVar[bool] = False  # whether strong views and mixtures have passes of their own, see the network
    own_components: ClassVar[tuple[type[Component], ...]] = ()  # which it makes itself, see ``methods.composition``
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
        supervised_steps: int = 0,
        ramp_steps: int = 0,
    ) -> None:
        super().__init__()
        self.student = network
        self.supervised_loss = supervised_loss or CrossEntropy()
        self.components = nn.ModuleList(components)
        self.supervised_steps = supervised_steps
        self.ramp_steps = ramp_steps
        self.pseudo_labeled_loss = PseudoLabeledLoss()
        self.teacher: EMATeacher | None = None
        self._truth: Tensor | None = None  # of the unlabeled images of the current step, if it is examined
        self._log_prob: Tensor | None = None  # of the labels of the current step, if its loss has found it out
        self._step: Step | None = None  # the current one
        self._labeled_maps: dict[str, Tensor] = {}  # of the current step, as the components leave them
        for component in components:
            component.attach(network)

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(self, batch: Batch, step: Step) -> StepOutput:
        """The only entry: DDP hooks it, and nothing else."""
        if step.health and batch.unlabeled is not None:
            self._truth = batch.unlabeled.maps.get("truth")
        with torch.no_grad():
            batch = fold.prepare(self._components(), batch, step)
        self._labeled_maps, self._step = batch.labeled.maps, step
        output = self.training_step(batch, step)
        self._truth, self._log_prob, self._labeled_maps, self._step = None, None, {}, None
        if batch.pseudo_labeled is None:
            return output
        return output._replace(losses={**output.losses, "pseudo_labeled": self._pseudo_labeled(batch.pseudo_labeled)})

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Weighted losses and values to log of one (micro-)batch."""
        raise NotImplementedError

    def on_step_end(self, step: Step) -> None:
        """After the optimiser's step: the teacher follows the student; components and mixers may act."""
        if self.teacher is not None:
            self.teacher.update(self.student, self.ema_step(step.index))
        with torch.no_grad():
            if self.teacher is not None and self.teacher.buffer_policy == "own" and not self.uses_unlabeled(step.index):
                # it makes no pass yet by which it would come to running statistics of its own
                self.teacher.take_buffers(self.student)
            for part in self._parts():
                part.step_end(step)

    def ema_step(self, step_index: int) -> int:
        """Where the warm-up of the teacher's decay stands in the update after a step; at 0 the teacher is a copy."""
        return step_index

    def check_batches(self, labeled: int, unlabeled: int) -> None:
        """Raises InputError where the method cannot be trained with so many images at a time; called once, before."""

    def requests(self) -> dict[str, Requests]:
        """Images asked for ahead of time, by the list they are of; the trainer hands them to the loader.

        Raises InputError where two parts of the method ask for images of one list.
        """
        found = [part for part in self.modules() if isinstance(part, Requests)]
        by_source: dict[str, Requests] = {each.source: each for each in found}
        if len(by_source) < len(found):
            raise InputError("method: two of its parts ask for images of the same list; take one of them out")
        return by_source

    def wanted_views(self) -> ViewSpec:
        """``views``, and what mixer and components want besides.

        Raises InputError where two components want second labeled images.
        """
        partners = any(part.partners for part in self.modules() if isinstance(part, Mixer))
        pastes = [component.paste for component in self._components() if component.paste is not None]
        if len(pastes) > 1:
            raise InputError("method: two of its components paste second labeled images; take one of them out")
        return self.views._replace(partners=partners, paste=pastes[0] if pastes else None)

    def predictors(self) -> dict[str, nn.Module]:
        """Image -> logits modules by role; the last one is the headline."""
        roles: dict[str, nn.Module] = {"student": Predictor(self.student)}
        if self.teacher is not None:
            roles["teacher"] = Predictor(self.teacher.network)
        return roles

    def predictor(self) -> nn.Module:
        """The module that is evaluated and exported: the teacher where there is one."""
        return list(self.predictors().values())[-1]

    def networks(self) -> list[SegmentationNetwork]:
        """All networks, the student first."""
        return [self.student] if self.teacher is None else [self.student, self.teacher.network]

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the state of a trained network as the start of all; RuntimeError where it does not fit."""
        for network in self.networks():
            network.load_state_dict(weights)

    def param_groups(self) -> list[ParamGroup]:
        """Trainable parameters: ``encoder``, and ``head`` with everything else."""
        encoder = [parameter for network in self.networks() for parameter in network.encoder_parameters()]
        known = {id(p) for p in encoder}
        head = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        return [ParamGroup("encoder", encoder, 1.0), ParamGroup("head", head, 1.0)]

    @torch.no_grad()
    def pseudo_target(self, image: Tensor, step: Step) -> PseudoTarget:
        """Refined pseudo target of (B, 3, H, W) images, for stages that label a data set."""
        source: nn.Module = self.student if self.teacher is None else self.teacher
        weak: NetworkOutput = source(image)
        everywhere = torch.ones(image.shape[0], *image.shape[2:], dtype=torch.bool, device=image.device)
        return self.refine(PseudoTarget.from_logits(weak.logits, everywhere), weak, step)

    @torch.no_grad()
    def pseudo_labels(self, weak: Tensor, valid: Tensor, step: Step) -> PseudoTarget:
        """What the student would be taught of weak views (B, 3, H, W) now, before mixing.

        By the same pass as in training, whose buffers may change: put them back (``networks.mode.unchanged``).
        What components ``select`` once the student has seen its view is not known here.
        """
        output: NetworkOutput = self.labeler()(weak)
        return self.weigh(self.refine(PseudoTarget.from_logits(output.logits, valid), output, step))

    # what subclasses are written with

    def labeler(self) -> nn.Module:
        """The module that makes pseudo-labels in training: the teacher where there is one."""
        return self.student if self.teacher is None else self.teacher

    def weigh(self, target: PseudoTarget, confidence: Tensor | None = None) -> PseudoTarget:
        """The method's own weighting of a refined (and mixed) target, a threshold for instance; here none.

        ``confidence`` is (B, H, W), if it is known already.
        """
        return target

    def uses_unlabeled(self, step_index: int) -> bool:
        """Whether unlabeled images take part in this step."""
        return self.views.unlabeled and step_index >= self.supervised_steps

    def ramp(self, step: Step) -> float:
        """Factor of the unlabeled losses, in (0, 1]."""
        return sigmoid_ramp(step.index - self.supervised_steps, self.ramp_steps)

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """The fold of all components over a pseudo target; without gradient."""
        if self._truth is not None:
            target = target._replace(truth=self._truth)
        with torch.no_grad():
            return fold.refine(self._components(), target, weak, step)

    def select(self, target: PseudoTarget, student: NetworkOutput, step: Step) -> PseudoTarget:
        """The fold of all components over a mixed target, once the student has seen the images."""
        with torch.no_grad():
            return fold.select(self._components(), target, student, step)

    def adjusted(self, logits: Tensor, step: Step, *, labeled: bool = False) -> Tensor:
        """The student's logits as a cross-entropy on unlabeled, or labeled, images is to see them."""
        return fold.adjust(self._components(), logits, step, labeled=labeled)

    def supervised(self, batch: Batch) -> tuple[NetworkOutput, dict[str, Tensor]]:
        """The student on the labeled images, and its losses."""
        labeled: NetworkOutput = self.student(batch.labeled.image)
        return labeled, self.supervised_losses(labeled, batch.labeled.label)

    def supervised_losses(self, labeled: NetworkOutput, label: Tensor) -> dict[str, Tensor]:
        """The supervised loss of an output, as components adjust it, and 0.4 of its auxiliary head's."""
        logits = labeled.logits if self._step is None else self.adjusted(labeled.logits, self._step, labeled=True)
        if isinstance(self.supervised_loss, PixelLoss):
            ignore = ignore_label(logits.shape[1])
            pixel = pixel_cross_entropy(logits, label, ignore_index=ignore)
            self._log_prob = -pixel.detach() if logits is labeled.logits else None
            losses = {"supervised": self.supervised_loss.reduce(pixel, label, ignore)}
        else:
            losses = {"supervised": self.supervised_loss(logits, label)}
        if "auxiliary" in labeled.heads:
            losses["auxiliary"] = 0.4 * self.supervised_loss(labeled.heads["auxiliary"], label)
        return losses

    def finish(
        self,
        losses: dict[str, Tensor],
        log: dict[str, Tensor],
        views: StepViews,
        step: Step,
        *,
        seen: Seen | None = None,
        examined: StepViews | None = None,
    ) -> StepOutput:
        """Add the components' losses, let them update their statistics, return the step's output.

        ``seen`` is what the student saw, where that is not ``views.image`` with the labels ``views.mixed``;
        ``examined`` the views whose pseudo-labels are examined, where those of ``views`` are not of the image's size.
        """
        views = views._replace(log_prob=self._log_prob, labeled_maps=self._labeled_maps)
        extra = fold.extra_losses(self._components(), views, step)
        if clash := losses.keys() & extra.keys():
            raise ValueError(f"a component returns a loss named {min(clash)!r}, which the method has already")
        losses = losses | extra
        with torch.no_grad():
            for part in self._parts():
                if isinstance(part, Component):
                    part.update(views, step)
            log = {name: value.detach() for name, value in log.items()} | self._figures()
        seen = (seen or examine.seen(views)) if step.picture else None
        return StepOutput(losses, log | examine.health(examined or views) if step.health else log, seen)

    def _pseudo_labeled(self, batch: LabeledBatch) -> Tensor:
        """The loss on pseudo-labeled images, from a pass of their own: batch statistics are those of this half."""
        return self.pseudo_labeled_loss(self.student(batch.image), batch.label, self.supervised_loss)

    def _components(self) -> Iterable[Component]:
        return (component for component in self.components if isinstance(component, Component))

    def _parts(self) -> list[Component | Mixer]:
        """All components and mixers, those inside of others too, each once."""
        return [part for part in self.modules() if isinstance(part, (Component, Mixer))]

    def _figures(self) -> dict[str, Tensor]:
        """What they tell the log; a copy, as they go on changing it."""
        return {name: value.detach().clone() for part in self._parts() for name, value in part.figures().items()}
