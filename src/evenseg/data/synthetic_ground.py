"""The ground of the synthetic scenes: road, walks, what lies beyond, and the paint on the asphalt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_light import Light
from evenseg.data.synthetic_world import Canvas, Kind, code, ground_code, shade

_ASPHALTS = ((112, 112, 114), (96, 96, 100), (128, 124, 120), (84, 86, 92), (138, 126, 116))
_PAVINGS = ((158, 154, 148), (176, 166, 152), (132, 130, 130), (168, 136, 120), (112, 112, 112), (186, 182, 176))
_GRASS = ((96, 122, 60), (118, 130, 72), (80, 104, 54), (142, 136, 86))
_NEAR, _END = 1.5, 200.0  # metres; where the strips begin and end
_WIDE = 400.0


class Street(NamedTuple):
    """The cross-section of the street: half width of the road and widths of the walks in metres.

    rural: 0 in a town centre, 1 in the country.
    """

    half_road: float
    left_walk: float
    right_walk: float
    rural: float

    def kerb(self, side: int) -> float:
        """Where the road ends on a side (-1 left, 1 right)."""
        return side * self.half_road

    def edge(self, side: int) -> float:
        """Where the walk ends on a side."""
        return side * (self.half_road + (self.left_walk if side < 0 else self.right_walk))


def draw_ground(canvas: Canvas, dice: Dice, light: Light, street: Street) -> None:
    """Fill the canvas: sky, then grass or paving out to the horizon, walks and road."""
    red, green, blue = (int(255 * channel) for channel in light.weather.haze)
    canvas.pixels[:] = red, green, blue, code(Kind.SKY, _END)
    beyond = Kind.VEGETATION if dice.chance(0.35 + 0.5 * street.rural) else Kind.SIDEWALK
    paving = dice.vary(dice.pick(_PAVINGS), 0.15)
    for side in (-1, 1):
        ground = dice.vary(dice.pick(_GRASS), 0.15) if beyond is Kind.VEGETATION else paving
        canvas.strip(street.edge(side), side * _WIDE, _NEAR, _END, ground, ground_code(beyond))
        walk, surface = (Kind.SIDEWALK, paving) if dice.chance(0.9) else (beyond, ground)
        canvas.strip(street.kerb(side), street.edge(side), _NEAR, _END, surface, ground_code(walk))
        canvas.strip(
            street.kerb(side), street.kerb(side) + side * 0.18, _NEAR, _END, shade(paving, 1.18), ground_code(walk)
        )
    canvas.strip(
        street.kerb(-1), street.kerb(1), _NEAR, _END, dice.vary(dice.pick(_ASPHALTS), 0.15), ground_code(Kind.ROAD)
    )
    _markings(canvas, dice, street)


def _markings(canvas: Canvas, dice: Dice, street: Street) -> None:
    road, paint = ground_code(Kind.ROAD), dice.vary((214, 212, 204), 0.12)
    if dice.chance(0.7):  # the middle line, often broken
        dash, gap = (_END, 0.0) if dice.chance(0.2) else (dice.between(2.0, 4.0), dice.between(2.5, 5.0))
        start = np.arange(_NEAR + dice.between(0.0, 3.0), 60.0, dash + gap)
        canvas.faces(_quads(-0.08, 0.08, start, start + dash), paint, road)
    if dice.chance(0.2):  # a zebra crossing
        z = dice.between(5.0, 14.0)
        left = np.arange(street.kerb(-1) + 0.3, street.kerb(1) - 0.5, 1.0)
        canvas.faces(_quads(left, left + 0.5, z, z + 3.0), paint, road)


def _quads(
    left: float | np.ndarray, right: float | np.ndarray, near: float | np.ndarray, far: float | np.ndarray
) -> np.ndarray:
    """Quads (N, 4, 3) lying on the ground, from arrays of N borders or numbers shared by all."""
    x0, x1, z0, z1 = np.broadcast_arrays(left, right, near, far)
    flat = np.zeros_like(z0)
    corners = ((x0, flat, z0), (x1, flat, z0), (x1, flat, z1), (x0, flat, z1))
    return np.stack([np.stack(corner, -1) for corner in corners], axis=1)
