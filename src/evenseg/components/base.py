"""What a component and a mixer are, and how a list of components is folded.

In a step the verbs come in this order: ``prepare``, ``refine``, ``select``, ``losses``, ``update``, ``step_end``;
``adjust`` wherever the method computes a loss.
``update``, ``figures`` and ``step_end`` are also called on components inside of others (a bank, say), once each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor, nn

from evenseg.types import Batch, NetworkOutput, PasteSpec, PseudoTarget, Step, StepViews

# verbs that mean something without pseudo-labels
_OTHER = ("prepare", "adjust", "losses", "update")


class Component(nn.Module):
    """A piece of a method whose verbs are all optional; what a component does not define does nothing.

    All memory is a registered buffer in float32, all randomness comes from the step.
    """

    paste: PasteSpec | None = None  # which second labeled images ``prepare`` wants to find in ``labeled.paste``
    needs_pseudo_labels: ClassVar[bool] = False  # set for components that do nothing else than change these

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "needs_pseudo_labels" in cls.__dict__:
            return
        changes = any(getattr(cls, verb) is not getattr(Component, verb) for verb in ("refine", "select"))
        other = any(getattr(cls, verb) is not getattr(Component, verb) for verb in _OTHER)
        cls.needs_pseudo_labels = changes and not other

    def attach(self, network: nn.Module) -> None:
        """Add what the component needs to the student (a named head), once, before the teacher is made."""

    def prepare(self, batch: Batch, step: Step) -> Batch:
        """Change the labeled images before the student sees them; called without gradient."""
        return batch

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Replace ``target.prob`` or multiply ``target.weight``; ``weak`` is the teacher's output."""
        return target

    def select(self, target: PseudoTarget, student: NetworkOutput, step: Step) -> PseudoTarget:
        """Multiply ``target.weight`` knowing what the student says of the same (mixed) images; without gradient."""
        return target

    def adjust(self, logits: Tensor, step: Step, *, labeled: bool) -> Tensor:
        """The student's logits (B, C, H, W) as a cross-entropy on labeled or unlabeled images is to see them.

        With gradient. What does the same to all classes of a pixel changes nothing.
        """
        return logits

    def losses(self, views: StepViews, step: Step) -> dict[str, Tensor]:
        """Further weighted loss terms, scalars by name."""
        return {}

    def update(self, views: StepViews, step: Step) -> None:
        """Statistics across steps: called without gradient, kept as all-reduced sums."""

    def figures(self) -> dict[str, Tensor]:
        """What there is to log: scalars, or (C,) vectors of a figure of each class; no gradient."""
        return {}

    def step_end(self, step: Step) -> None:
        """After the optimiser's step, once, whatever the number of micro-batches; without gradient."""


class Mixer(nn.Module):
    """Mixes the images of a batch, and their targets with the same mask, all fields of them.

    A mixer with ``partners`` is given twice as many images as it returns: the second half are partners of the
    first, drawn from the whole unlabeled set.
    """

    partners: bool = False

    def forward(
        self,
        image: Tensor,
        target: PseudoTarget,
        step: Step,
        pasted: PseudoTarget | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, PseudoTarget]:
        """Mixed (B, 3, H, W) images and their targets; the default mixes nothing.

        ``pasted`` are other targets of the same images, for the pixels that are pasted elsewhere. ``index`` are
        their positions in the unlabeled list, (B,) int64.
        """
        return image, target

    def figures(self) -> dict[str, Tensor]:
        """As of a component."""
        return {}

    def step_end(self, step: Step) -> None:
        """As of a component."""


def prepare(components: Iterable[Component], batch: Batch, step: Step) -> Batch:
    """The labeled images as all components leave them."""
    for component in components:
        batch = component.prepare(batch, step)
    return batch


def refine(components: Iterable[Component], target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
    """The fold: each component in turn refines what the one before it returned."""
    for component in components:
        target = component.refine(target, weak, step)
    return target


def select(components: Iterable[Component], target: PseudoTarget, student: NetworkOutput, step: Step) -> PseudoTarget:
    """The fold once the student has seen the images."""
    for component in components:
        target = component.select(target, student, step)
    return target


def adjust(components: Iterable[Component], logits: Tensor, step: Step, *, labeled: bool) -> Tensor:
    """The student's logits as the losses see them; themselves where no component adjusts any."""
    for component in components:
        logits = component.adjust(logits, step, labeled=labeled)
    return logits


def extra_losses(components: Iterable[Component], views: StepViews, step: Step) -> dict[str, Tensor]:
    """The loss terms of all components.

    Raises:
        ValueError: two components use one name.
    """
    terms: dict[str, Tensor] = {}
    for component in components:
        for name, value in component.losses(views, step).items():
            if name in terms:
                raise ValueError(f"two components return a loss named {name!r}")
            terms[name] = value
    return terms
