"""The strong view of the "randaugment" policy: a few colour operations per image, at one strength.

After Cubuk et al., "RandAugment", CVPR Workshops 2020, with the operations that leave every pixel
where it is. Factors go to either side of 1 with equal chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
}
_NAMES = tuple(OPERATIONS)


def draw_operations(
    config: StrongConfig, seed: int, step: int, first_slot: int, batch: int, view: int
) -> list[tuple[Operation, ...]]:
    """The operations of strong view number ``view`` for the ``batch`` global slots from ``first_slot`` on, in order."""
    chance = slot_uniform(seed, step, first_slot, batch, 2 * config.operations, stream=f"randaugment {view}").tolist()
    return [
        tuple(
            Operation(
                _NAMES[int(row[2 * i] * len(_NAMES))], config.magnitude if row[2 * i + 1] < 0.5 else -config.magnitude
            )
            for i in range(config.operations)
        )
        for row in chance
    ]


def randaugment_view(image: Tensor, draws: list[tuple[Operation, ...]]) -> Tensor:
    """Apply the operations to a (B, 3, H, W) batch in [0, 1]; the same shape and range, ``image`` is left alone."""
    view = image.clone()
    for row, operations in enumerate(draws):
        for name, strength in operations:
            view[row] = OPERATIONS[name](view[row], strength)
    return view.clamp_(0, 1)
