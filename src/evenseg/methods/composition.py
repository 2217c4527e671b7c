"""Which components go with which method, and why not where they do not; known from the classes alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from evenseg.components.base import Component, Mixer
from evenseg.errors import InputError
from evenseg.methods.base import Method


def refusal(method: type[Method], component: type[Component]) -> str | None:
    """Why a component cannot be added to a method; None where it can."""
    if component in method.own_components:
        return "it has one already, which is set by the method's own arguments"
    if component.needs_pseudo_labels and not method.views.unlabeled:
        return "it learns from labeled images alone, and this acts on pseudo-labels"
    return None


def mixer_refusal(method: type[Method], mixer: type[Mixer]) -> str | None:
    """Why a mixer cannot be given to a method; None where it can."""
    if "mixer" not in inspect.signature(method).parameters:
        return "it takes no mixer"
    return None


def refuse_illegal(method: type[Method], components: Sequence[type[Component]], *, name: str, where: str) -> None:
    """Raises InputError for components that do not go with a method called ``name``, or that occur twice."""
    for index, component in enumerate(components):
        reason = refusal(method, component)
        if reason is not None:
            raise InputError(
                f"{where}.{index}: {component.__name__} does not go with {name}: {reason}; take it out "
                "(`evenseg list compositions` shows what goes together)"
            )
        if component in components[:index]:
            raise InputError(f"{where}.{index}: {component.__name__} is there twice; take one of them out")
