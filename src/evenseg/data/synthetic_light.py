"""The weather and the light of the synthetic scenes, which colour everything in them."""

from __future__ import annotations

from typing import NamedTuple

from evenseg.data.synthetic_dice import Dice

Rgb = tuple[float, float, float]  # each in [0, 1], more where it is bright


class Weather(NamedTuple):
    """A kind of day.

    share: relative frequency. zenith, haze: the sky at its top and at the horizon. light: factor on
    all that does not glow by itself. sun: contrast between lit and shaded faces. shadow: what the
    ground loses in it. reach: length of shadows in object heights. fog: 1/metres. saturation: of
    colours. noise: of the sensor. clouds: how far they cover the sky.
    """

    name: str
    share: float
    zenith: Rgb
    haze: Rgb
    light: Rgb
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
    Weather(
        "clear", 26, zenith=(0.25, 0.5, 0.88), haze=(0.74, 0.87, 0.97), light=(1.1, 1.06, 0.99),
        sun=0.62, shadow=0.55, reach=(0.4, 1.2), fog=0.002, saturation=1.12, noise=0.007, clouds=0.8,
    ),
    Weather(
        "overcast", 20, zenith=(0.66, 0.7, 0.75), haze=(0.87, 0.89, 0.91), light=(0.98, 1.0, 1.02),
        sun=0.16, shadow=0.14, reach=(0.1, 0.3), fog=0.005, saturation=0.92, noise=0.009, clouds=0.5,
    ),
    Weather(
        "golden", 15, zenith=(0.36, 0.48, 0.76), haze=(1.0, 0.74, 0.46), light=(1.2, 0.93, 0.66),
        sun=0.7, shadow=0.6, reach=(1.5, 3.5), fog=0.005, saturation=1.12, noise=0.009, clouds=0.9,
    ),
    Weather(
        "rain", 11, zenith=(0.45, 0.5, 0.57), haze=(0.68, 0.72, 0.76), light=(0.7, 0.76, 0.84),
        sun=0.1, shadow=0.1, reach=(0.1, 0.2), fog=0.011, saturation=0.85, noise=0.012, clouds=0.6, rain=True,
    ),
    Weather(
        "night", 11, zenith=(0.04, 0.05, 0.14), haze=(0.17, 0.18, 0.3), light=(0.46, 0.48, 0.66),
        sun=0.3, shadow=0.3, reach=(0.3, 0.8), fog=0.004, saturation=0.95, noise=0.016, clouds=0.3, night=True,
    ),
    Weather(
        "fog", 7, zenith=(0.78, 0.8, 0.82), haze=(0.85, 0.86, 0.87), light=(0.92, 0.93, 0.94),
        sun=0.06, shadow=0.06, reach=(0.1, 0.2), fog=0.036, saturation=0.8, noise=0.009, clouds=0.1,
    ),
    Weather(
        "dusk", 6, zenith=(0.2, 0.18, 0.42), haze=(0.97, 0.54, 0.5), light=(0.68, 0.52, 0.62),
        sun=0.3, shadow=0.2, reach=(0.5, 1.0), fog=0.005, saturation=1.0, noise=0.012, clouds=1.0, night=True,
    ),
    Weather(
        "snow", 4, zenith=(0.7, 0.75, 0.82), haze=(0.88, 0.9, 0.93), light=(0.96, 0.99, 1.06),
        sun=0.15, shadow=0.12, reach=(0.1, 0.4), fog=0.012, saturation=0.85, noise=0.009, clouds=0.4, snow=True,
    ),
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
