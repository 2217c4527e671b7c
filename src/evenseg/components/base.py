"""What a component and a mixer are, and how a list of components is folded."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from evenseg.types import NetworkOutput, PseudoTarget, Step, StepViews


class Component(nn.Module):
    """A piece of a method with four optional verbs; what a component does not define does nothing.

    All memory is a registered buffer in float32, all randomness comes from the step.
    """

    def attach(self, network: nn.Module) -> None:
        """Add what the component needs to the student (a named head), once, before the teacher is made."""

    def refine(self, target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
        """Replace ``target.prob`` or multiply ``target.weight``; ``weak`` is the teacher's output."""
        return target

    def losses(self, views: StepViews, step: Step) -> dict[str, Tensor]:
        """Further weighted loss terms, scalars by name."""
        return {}

    def update(self, views: StepViews, step: Step) -> None:
        """Statistics across steps: called without gradient, kept as all-reduced sums."""


class Mixer(nn.Module):
    """Mixes the images of a batch, and their targets with the same mask, all fields of them."""

    def forward(
        self, image: Tensor, target: PseudoTarget, step: Step, pasted: PseudoTarget | None = None
    ) -> tuple[Tensor, PseudoTarget]:
        """Mixed (B, 3, H, W) images and their targets; the default mixes nothing.

        ``pasted`` are other targets of the same images, for the pixels that are pasted elsewhere.
        """
        return image, target


def refine(components: Iterable[Component], target: PseudoTarget, weak: NetworkOutput, step: Step) -> PseudoTarget:
    """The fold: each component in turn refines what the one before it returned."""
    for component in components:
        target = component.refine(target, weak, step)
    return target


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
