"""The random draws of the synthetic scenes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from random import Random
from typing import TypeVar

from evenseg.data.synthetic_world import Color
from evenseg.functional.random import key

T = TypeVar("T")


class Dice:
    """Random numbers of one stream of one scene.

    From a generator of Python's own: single draws from one of numpy's take ten times as long.
    """

    def __init__(self, *parts: int | str) -> None:
        self.random = Random(key(*parts)).random  # uniform in [0, 1)

    def fork(self) -> Dice:
        """Dice for one thing in the scene, so that what it draws changes nothing around it."""
        return Dice(int(self.random() * 2**53))

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.random()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def side(self) -> int:
        """-1 (left) or 1 (right)."""
        return 1 if self.random() < 0.5 else -1

    def vary(self, color: Color, amount: float) -> Color:
        """The colour, brighter or darker, and each channel shifted a little."""
        gain = 1.0 + self.between(-amount, amount)
        red, green, blue = (min(max(int(channel * gain + self.between(-60, 60) * amount), 0), 255) for channel in color)
        return red, green, blue

    def any_color(self, saturation: tuple[float, float], value: tuple[float, float]) -> Color:
        """Any hue, with saturation and value (0 to 1) from the given ranges."""
        rgb = colorsys.hsv_to_rgb(self.random(), self.between(*saturation), self.between(*value))
        red, green, blue = (int(channel * 255) for channel in rgb)
        return red, green, blue
