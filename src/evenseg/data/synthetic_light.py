"""Dice and daylight of the synthetic scenes: the cheap random draws, and the weather that colours everything."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from random import Random
from typing import NamedTuple, TypeVar

from evenseg.data.synthetic_world import Color
from evenseg.functional.random import key

T = TypeVar("T")


class Dice:
    """Random numbers of one stream of one scene. Python's own generator: single draws from numpy's are ten times slower."""

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


class Weather(NamedTuple):
    """A kind of day. Colours are RGB in [0, 1]; ``light`` multiplies all that does not glow by itself.

    share: relative frequency. zenith, haze: sky colours, top and horizon. sun: contrast between lit
    and shaded faces. reach: length of shadows in object heights. fog: 1/metres. noise: of the sensor.
    """

    name: str
    share: float
    zenith: tuple[float, float, float]
    haze: tuple[float, float, float]
    light: tuple[float, float, float]
    sun: float
    shadow: float
    reach: tuple[float, float]
    fog: float
    saturation: float
    noise: float
    clouds: float
    night: bool = False
    rain: bool = False
    snow: bool = False


WEATHERS = (
    Weather("clear", 26, (0.25, 0.5, 0.88), (0.74, 0.87, 0.97), (1.1, 1.06, 0.99), 0.62, 0.55, (0.4, 1.2), 0.002, 1.12, 0.007, 0.8),
    Weather("overcast", 20, (0.66, 0.7, 0.75), (0.87, 0.89, 0.91), (0.98, 1.0, 1.02), 0.16, 0.14, (0.1, 0.3), 0.005, 0.92, 0.009, 0.5),
    Weather("golden", 15, (0.36, 0.48, 0.76), (1.0, 0.74, 0.46), (1.2, 0.93, 0.66), 0.7, 0.6, (1.5, 3.5), 0.005, 1.12, 0.009, 0.9),
    Weather("rain", 11, (0.45, 0.5, 0.57), (0.68, 0.72, 0.76), (0.7, 0.76, 0.84), 0.1, 0.1, (0.1, 0.2), 0.011, 0.85, 0.012, 0.6, rain=True),
    Weather("night", 11, (0.04, 0.05, 0.14), (0.17, 0.18, 0.3), (0.46, 0.48, 0.66), 0.3, 0.3, (0.3, 0.8), 0.004, 0.95, 0.016, 0.3, night=True),
    Weather("fog", 7, (0.78, 0.8, 0.82), (0.85, 0.86, 0.87), (0.92, 0.93, 0.94), 0.06, 0.06, (0.1, 0.2), 0.036, 0.8, 0.009, 0.1),
    Weather("dusk", 6, (0.2, 0.18, 0.42), (0.97, 0.54, 0.5), (0.68, 0.52, 0.62), 0.3, 0.2, (0.5, 1.0), 0.005, 1.0, 0.012, 1.0, night=True),
    Weather("snow", 4, (0.7, 0.75, 0.82), (0.88, 0.9, 0.93), (0.96, 0.99, 1.06), 0.15, 0.12, (0.1, 0.4), 0.012, 0.85, 0.009, 0.4, snow=True),
)  # fmt: skip


class Light(NamedTuple):
    """The light of one scene: its weather, where the sun stands and how strong everything is."""

    weather: Weather
    sun_x: float  # direction towards the sun, -1 (left) to 1 (right)
    sun_z: float  # and -1 (behind the camera) to 1 (ahead)
    reach: float  # shadow length in object heights
    gain: tuple[float, float, float]  # exposure and colour cast per channel
    gamma: float
    fog: float

    def wall(self, toward_x: float, toward_z: float) -> float:
        """Brightness of an upright face whose normal points to (x, z)."""
        facing = toward_x * self.sun_x + toward_z * self.sun_z
        return 1.0 - self.weather.sun * 0.45 * (0.7 - facing)


def draw_light(dice: Dice) -> Light:
    """The weather and light of a scene."""
    rest = dice.between(0, sum(weather.share for weather in WEATHERS))
    weather = WEATHERS[-1]
    for candidate in WEATHERS:
        rest -= candidate.share
        if rest < 0:
            weather = candidate
            break
    exposure = dice.between(0.85, 1.2)
    warm, tint = dice.between(-0.1, 0.1), dice.between(-0.05, 0.05)
    return Light(
        weather=weather,
        sun_x=dice.side() * dice.between(0.35, 1.0),
        sun_z=dice.between(-0.9, 0.6),
        reach=dice.between(*weather.reach),
        gain=(exposure * (1 + warm), exposure * (1 + tint), exposure * (1 - warm)),
        gamma=dice.between(0.78, 1.15),
        fog=weather.fog * dice.between(0.6, 1.5),
    )
