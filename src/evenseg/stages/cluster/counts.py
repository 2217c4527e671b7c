"""How many subclasses each class is divided into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from evenseg.errors import InputError
from evenseg.functional.clustering import CountRule, Rounding, subclass_counts
from evenseg.schema import nearest

Counts = Sequence[int] | Mapping[str, int]


def explicit_counts(counts: Counts, names: Sequence[str]) -> Tensor:
    """(C,) int64 subclasses, one for classes that are not named.

    Args:
        counts: of all classes in their order, or by name.
        names: of the classes.

    Raises:
        InputError: they do not fit the classes.
    """
    if not isinstance(counts, Mapping):
        if len(counts) != len(names):
            raise InputError(
                f"counts: lists {len(counts)} numbers for {len(names)} classes; give one for each, or names"
            )
        counts = dict(zip(names, counts, strict=True))
    for name, count in counts.items():
        if name not in names:
            hint = nearest(name, names) or f"; the classes are {', '.join(names)}"
            raise InputError(f"counts: there is no class {name!r}{hint}")
        if count < 1:
            raise InputError(f"counts: {name} has {count} subclasses; give at least 1")
    return torch.tensor([counts.get(name, 1) for name in names])


def check_budget(rule: CountRule, budget: int | None, num_classes: int) -> None:
    """Raises InputError where there could not be so few subclasses, or the rule needs a number."""
    if budget is None:
        if rule == "budget":
            raise InputError("budget: the rule budget needs a number; give one, such as 254")
    elif budget < num_classes:
        raise InputError(
            f"budget: {budget} subclasses are fewer than the {num_classes} classes; give at least {num_classes}"
        )


def chosen_counts(
    cells: Tensor,
    names: Sequence[str],
    *,
    rule: CountRule,
    budget: int | None,
    rounding: Rounding,
    counts: Counts | None,
    warn: Callable[[str], None],
) -> Tensor:
    """(C,) int64 subclasses of each class.

    Args:
        cells: (C,) int64, cells of each class.
        names: of the classes.
        rule, rounding: see ``functional.subclass_counts``.
        budget: most subclasses of all classes together, also by the rule ``smallest``; None: no limit to that.
        counts: what is taken instead.
        warn: called with what the user should know.

    Raises:
        InputError: more subclasses than cells, or fewer than classes.
    """
    if missing := [name for name, count in zip(names, cells.tolist(), strict=True) if not count]:
        warn(f"no cell shows {', '.join(missing)}, which stays a single subclass without any")
    if counts is not None:
        found = explicit_counts(counts, names)
        for name, want, have in zip(names, found.tolist(), cells.tolist(), strict=True):
            if want > max(have, 1):
                raise InputError(f"counts: {name} has {have} cells, which cannot form {want} subclasses; give fewer")
        return found
    check_budget(rule, budget, len(names))
    if rule == "budget":
        assert budget is not None  # as has been checked
        return subclass_counts(cells, rule=rule, budget=budget, rounding=rounding)
    found = subclass_counts(cells, rule=rule, rounding=rounding)
    if budget is None or (total := int(found.sum())) <= budget:
        return found
    warn(
        f"subclasses as large as the smallest class would be {total:,}; they are made larger, to be {budget} at most "
        "(raise budget for the paper's rule)"
    )
    return subclass_counts(cells, rule="budget", budget=budget, rounding=rounding)
