"""The strong view of the "randaugment" policy: a few colour operations per image, at one strength.

After Cubuk et al., "RandAugment", CVPR Workshops 2020, with the operations that leave every pixel
where it is. Factors go to either side of 1 with equal chance, unless only one is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from evenseg.config import StrongConfig
from evenseg.functional.random import slot_uniform


class Operation(NamedTuple):
    """One colour operation: its name in ``OPERATIONS`` and a strength in [-1, 1]."""

    name: str
    strength: float


# Strength to change, as in torchvision's RandAugment: factors 0.1 .. 1.9, 8 .. 4 bits, thresholds 1 .. 0.
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, strength: image,
    "autocontrast": lambda image, strength: tv.autocontrast(image),
    "equalize": lambda image, strength: tv.equalize(image),
    "brightness": lambda image, strength: tv.adjust_brightness(image, 1 + 0.9 * strength),
    "contrast": lambda image, strength: tv.adjust_contrast(image, 1 + 0.9 * strength),
    "saturation": lambda image, strength: tv.adjust_saturation(image, 1 + 0.9 * strength),
    "sharpness": lambda image, strength: tv.adjust_sharpness(image, 1 + 0.9 * strength),
    "posterize": lambda image, strength: tv.posterize(image, 8 - round(4 * abs(strength))),
    "solarize": lambda image, strength: tv.solarize(image, 1 - abs(strength)),
    "invert": lambda image, strength: 1 - image,
    "solarize_add": lambda image, strength: _solarize_add(image, abs(strength)),
}
USUAL = tuple(OPERATIONS)[:9]  # what is chosen from where no list is given


def _solarize_add(image: Tensor, strength: float) -> Tensor:
    """The dark half of the range becomes brighter, by at most 110 of 255."""
    return torch.where(image < 0.5, (image + strength * 110 / 255).clamp(max=1), image)


def draw_operations(
    config: StrongConfig, seed: int, step: int, first_slot: int, batch: int, view: int
) -> list[tuple[Operation, ...]]:
    """The operations of strong view number ``view`` for the ``batch`` global slots from ``first_slot`` on, in order."""
    names, count = config.operation_names or USUAL, config.operations
    choice = slot_uniform(seed, step, first_slot, batch, 2 * count, stream=f"randaugment {view}").tolist()
    chance = slot_uniform(seed, step, first_slot, batch, 3 * count, stream=f"randaugment chance {view}").tolist()

    drawn = []
    for chosen, uniform in zip(choice, chance, strict=True):
        applied = [i for i in range(count) if uniform[3 * i] < config.operation_probability]
        drawn.append(tuple(_operation(names, config, chosen[2 * i : 2 * i + 2], uniform[3 * i + 1 :]) for i in applied))
    return drawn


def _operation(names: Sequence[str], config: StrongConfig, chosen: list[float], normal: list[float]) -> Operation:
    """One operation of uniform numbers: two for its name and side, two for its strength."""
    strength = min(max(config.magnitude + config.magnitude_std * _normal(*normal[:2]), 0.0), 1.0)
    upwards = chosen[1] < 0.5 or not config.both_ways
    return Operation(names[int(chosen[0] * len(names))], strength if upwards else -strength)


def _normal(first: float, second: float) -> float:
    """A normally distributed number of two uniform ones (Box and Muller, 1958)."""
    return math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)


def randaugment_view(image: Tensor, draws: list[tuple[Operation, ...]]) -> Tensor:
    """Apply the operations to a (B, 3, H, W) batch in [0, 1]; the same shape and range, ``image`` is left alone."""
    view = image.clone()
    for row, operations in enumerate(draws):
        for name, strength in operations:
            view[row] = OPERATIONS[name](view[row], strength)
    return view.clamp_(0, 1)
