"""The cars of the synthetic streets: solid bodies of four shapes, parked or driving in any direction."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_light import Light
from evenseg.data.synthetic_world import Canvas, Color, Kind, Point, blend, code, shade

_BLACK = (24, 24, 26)
_GLASS, _REFLECTION = (52, 66, 82), (150, 170, 190)
_PAINTS = ((232, 232, 230), (28, 29, 33), (122, 126, 130), (178, 182, 186), (150, 28, 32), (34, 62, 128), (66, 84, 64))
_SILL = 0.28  # metres above the road
_TURN = [(math.cos(2 * math.pi * i / 10), math.sin(2 * math.pi * i / 10)) for i in range(10)]

# length, width, height in metres, and the outline from the side, tail to bonnet, as (share of the
# length, share of the height): tail, waist, roof, roof, waist, nose
_SHAPES = {
    "sedan": ((4.5, 1.75, 1.45), ((0.0, 0.62), (0.16, 0.66), (0.3, 1.0), (0.58, 1.0), (0.74, 0.66), (1.0, 0.56))),
    "hatchback": ((3.8, 1.7, 1.5), ((0.0, 0.6), (0.04, 0.66), (0.14, 1.0), (0.6, 1.0), (0.78, 0.64), (1.0, 0.54))),
    "offroad": ((4.6, 1.9, 1.85), ((0.0, 0.6), (0.02, 0.62), (0.06, 1.0), (0.62, 1.0), (0.74, 0.64), (1.0, 0.58))),
    "van": ((5.2, 2.0, 2.3), ((0.0, 0.55), (0.01, 0.6), (0.03, 1.0), (0.72, 1.0), (0.9, 0.58), (1.0, 0.48))),
}


class _Frame(NamedTuple):
    """Where a car stands: its middle, and its direction (0 = away from the camera)."""

    x: float
    z: float
    sin: float
    cos: float
    length: float

    def at(self, along: float, across: float, up: float) -> Point:
        """A point of the car: share of the length, metres to the right, metres up."""
        along = (along - 0.5) * self.length
        return self.x + along * self.sin + across * self.cos, up, self.z + along * self.cos - across * self.sin


def draw_car(canvas: Canvas, dice: Dice, light: Light, x: float, z: float, yaw: float) -> None:
    """A car with its middle at (x, z), driving in direction ``yaw`` in radians (0 = away from the camera)."""
    shape = dice.pick(("sedan", "sedan", "hatchback", "hatchback", "offroad", "van"))
    (length, width, height), profile = _SHAPES[shape]
    paint = dice.vary(dice.pick(_PAINTS), 0.2) if dice.chance(0.6) else dice.any_color((0.3, 0.95), (0.3, 0.9))
    glass = blend(_GLASS, _REFLECTION, dice.between(0.0, 0.5))
    frame = _Frame(x, z, math.sin(yaw), math.cos(yaw), length)
    at, body, half = frame.at, code(Kind.CAR, z), width / 2
    outline = [(along, _SILL + (height - _SILL) * (up - 0.1) / 0.9) for along, up in profile]

    # which flank and which end the camera sees, and how they are lit
    view = x - canvas.camera.offset
    flank = -half if view * frame.cos - z * frame.sin > 0 else half
    tail = view * frame.sin + z * frame.cos > 0
    flank_light = light.wall(math.copysign(1.0, flank) * frame.cos, -math.copysign(1.0, flank) * frame.sin)
    end_light = light.wall(-frame.sin if tail else frame.sin, -frame.cos if tail else frame.cos)

    # the darkness below, then bonnet, windscreens, roof and boot, the far ones first
    for across in (-half, half):
        under = [at(0.02, across, 0.12), at(0.98, across, 0.12), at(0.98, across, 0.5), at(0.02, across, 0.5)]
        canvas.face(under, _BLACK, body)
    canvas.face([at(0.02, -half, 0.1), at(0.02, half, 0.1), at(0.98, half, 0.1), at(0.98, -half, 0.1)], _BLACK, body)
    tops = list(pairwise(outline))
    for (a0, up0), (a1, up1) in reversed(tops) if tail else tops:
        half0, half1 = (half * (0.84 if up > 0.9 * height else 1.0) for up in (up0, up1))
        steep = abs(up1 - up0) > 0.2 * height
        face = [at(a0, -half0, up0), at(a0, half0, up0), at(a1, half1, up1), at(a1, -half1, up1)]
        canvas.face(face, shade(glass, end_light) if steep else shade(paint, 1.12), body)

    _draw_flank(canvas, frame, outline, flank, shade(paint, flank_light), shade(glass, flank_light), body)
    end, top = outline[0] if tail else outline[-1]
    shines = light.weather.night or dice.chance(0.15)
    _draw_end(canvas, frame, end, top, half, shade(paint, end_light), tail=tail, shines=shines)


def _draw_flank(
    canvas: Canvas,
    frame: _Frame,
    outline: list[tuple[float, float]],
    flank: float,
    paint: Color,
    glass: Color,
    body: int,
) -> None:
    """Sheet metal, windows, wheels."""
    at = frame.at
    metal = [at(along, flank, up) for along, up in outline]
    canvas.face([at(0.0, flank, _SILL), *metal, at(1.0, flank, _SILL)], paint, body)
    (a1, up1), (a2, up2), (a3, _), (a4, up4) = outline[1:5]
    waist, roof = max(up1, up4) + 0.02, up2 - 0.09
    window = [(a1 + 0.05, waist), (a2 + 0.01, roof), (a3 - 0.01, roof), (a4 - 0.05, waist)]
    canvas.face([at(along, flank, up) for along, up in window], glass, body)
    pillar = (a2 + a3) / 2
    post = [(pillar, waist), (pillar, roof), (pillar + 0.02, roof), (pillar + 0.02, waist)]
    canvas.face([at(along, flank, up) for along, up in post], shade(paint, 0.8), body)
    radius = 0.34 if outline[2][1] < 1.7 else 0.38
    for wheel in (0.19, 0.81):
        for size, color in ((radius, _BLACK), (0.55 * radius, (120, 122, 126))):
            ring = [at(wheel + cos * size / frame.length, flank, radius + sin * size) for cos, sin in _TURN]
            canvas.face(ring, color, body)


def _draw_end(
    canvas: Canvas, frame: _Frame, end: float, top: float, half: float, paint: Color, *, tail: bool, shines: bool
) -> None:
    """The end that faces the camera: bumper, radiator, number plate, lights."""
    body = code(Kind.CAR, frame.z)

    def panel(u0: float, v0: float, u1: float, v1: float, color: Color, owner: int) -> None:
        low, high = _SILL + (top - _SILL) * v0, _SILL + (top - _SILL) * v1
        corners = ((u0, low), (u1, low), (u1, high), (u0, high))
        canvas.face([frame.at(end, half * u, v) for u, v in corners], color, owner)

    panel(-1, -0.1, 1, 1, paint, body)
    panel(-1, -0.12, 1, 0.22, shade(paint, 0.6), body)
    if not tail:
        panel(-0.5, 0.3, 0.5, 0.6, (34, 35, 38), body)
    panel(-0.25, 0.1, 0.25, 0.3, (226, 226, 214), body)
    if tail:
        lamp = (255, 46, 36) if shines else (150, 20, 22)
    else:
        lamp = (255, 246, 214) if shines else (214, 218, 222)
    for u in (-0.95, 0.62):
        panel(u, 0.55, u + 0.33, 0.88, lamp, code(Kind.CAR, frame.z, glows=shines))
