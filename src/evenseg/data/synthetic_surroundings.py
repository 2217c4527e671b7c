"""What lines the synthetic streets: buildings, trees, hedges, and the skyline behind them."""

from __future__ import annotations

import math

import numpy as np

from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_light import Light
from evenseg.data.synthetic_world import Canvas, Color, Kind, blend, code, shade

_FACADES = (
    (164, 84, 66), (136, 70, 60), (206, 186, 152), (224, 214, 196), (176, 170, 162), (122, 120, 120), (214, 172, 122),
    (150, 162, 150), (128, 150, 176), (196, 142, 130), (92, 96, 104), (232, 228, 222),
)  # fmt: skip
_ROOFS = ((120, 62, 48), (74, 70, 72), (96, 84, 76), (150, 86, 62), (52, 56, 64))
_LEAVES = ((74, 108, 46), (56, 92, 48), (98, 124, 58), (46, 76, 52), (116, 132, 70))
_AUTUMN = ((188, 120, 40), (170, 80, 36), (196, 156, 52), (142, 96, 50), (150, 52, 40))
_BARK = ((86, 68, 54), (70, 58, 50), (112, 98, 84))


def draw_building(
    canvas: Canvas, dice: Dice, light: Light, side: int, x: float, near: float, far: float, height: float
) -> None:
    """A building along the street: its face at ``x`` from ``near`` to ``far``, and the end towards the camera."""
    owner = code(Kind.BUILDING, max(near, 4.0) * 0.5 + min(far, 2.5 * near) * 0.5)
    color = dice.vary(dice.pick(_FACADES), 0.15) if dice.chance(0.8) else dice.any_color((0.1, 0.5), (0.4, 0.9))
    depth = side * dice.between(7.0, 11.0)
    street, end = light.wall(-side, 0.0), light.wall(0.0, -1.0)
    gable = height < 8.0 and dice.chance(0.75)
    back = x + depth
    if gable:
        ridge = height + dice.between(1.8, 3.2)
        roof = dice.vary(dice.pick(_ROOFS), 0.15)
        if light.weather.snow:
            roof = blend(roof, (240, 242, 248), 0.75)
        middle = x + depth / 2
        canvas.face(
            [(x, 0.0, near), (back, 0.0, near), (back, height, near), (middle, ridge, near), (x, height, near)],
            shade(color, end),
            owner,
        )
        eave = x - side * 0.4
        canvas.face(
            [(eave, height - 0.2, near), (middle, ridge, near), (middle, ridge, far), (eave, height - 0.2, far)],
            shade(roof, 0.75 + 0.25 * street),
            owner,
        )
    else:
        canvas.face(
            [(x, 0.0, near), (back, 0.0, near), (back, height, near), (x, height, near)], shade(color, end), owner
        )
    canvas.face([(x, 0.0, near), (x, height, near), (x, height, far), (x, 0.0, far)], shade(color, street), owner)
    if near > 50.0:
        return
    _openings(canvas, dice, light, side, x, near, far, height, color, owner)
    if not gable and dice.chance(0.6):  # a cornice
        top = [(x, height - 0.5, near), (x, height, near), (x, height, far), (x, height - 0.5, far)]
        canvas.face(top, shade(color, street * dice.pick((0.75, 1.15))), owner)


def _openings(
    canvas: Canvas,
    dice: Dice,
    light: Light,
    side: int,
    x: float,
    near: float,
    far: float,
    height: float,
    color: Color,
    owner: int,
) -> None:
    """Windows on both visible faces, and a shop or a door at the bottom."""
    storey, spacing = dice.between(2.8, 3.6), dice.between(2.0, 3.4)
    width, tall = spacing * dice.between(0.4, 0.72), storey * dice.between(0.42, 0.66)
    glass = blend(blend((44, 54, 66), (150, 180, 210), dice.between(0.0, 0.6)), color, 0.15)
    ledge = dice.between(1.0, 1.3)
    levels = np.arange(ledge if dice.chance(0.5) else ledge + storey, height - tall, storey)
    along = np.arange(near + 0.4 * spacing, far - width, spacing)
    across = np.arange(0.4 * spacing, 6.5 - width, spacing)
    street = _windows(levels, along, width, tall)
    front = _windows(levels, across, width, tall)
    street[..., 0] = x
    front[..., 0] = x + side * front[..., 2]
    front[..., 2] = near
    windows = np.concatenate([street, front])
    factor = light.wall(-side, -0.5)
    canvas.faces(windows, shade(glass, factor), owner)
    if light.weather.night and len(windows):
        lit = windows[np.array([dice.chance(0.35) for _ in range(len(windows))], bool)]
        canvas.faces(lit, dice.vary((236, 190, 110), 0.15), owner + 1)
    if dice.chance(0.45):  # a shop: a dark front, an awning or a board in the colours of signs and cars
        sign = dice.any_color((0.3, 1.0), (0.3, 0.95))
        start, stop = near + 0.1 * (far - near), near + dice.between(0.5, 0.9) * (far - near)
        canvas.face([(x, 0.2, start), (x, 2.3, start), (x, 2.3, stop), (x, 0.2, stop)], shade(glass, 0.8), owner)
        if dice.chance(0.5):
            out = x - side * dice.between(0.8, 1.4)
            canvas.face([(x, 2.9, start), (x, 2.9, stop), (out, 2.3, stop), (out, 2.3, start)], sign, owner)
            canvas.face([(x, 2.9, start), (out, 2.3, start), (x, 2.3, start)], shade(sign, 0.7), owner)
        else:
            board = owner + int(light.weather.night)
            canvas.face([(x, 2.35, start), (x, 3.0, start), (x, 3.0, stop), (x, 2.35, stop)], sign, board)
    if dice.chance(
        0.25
    ):  # a poster or a board on the end wall: round or square, coloured like a traffic sign, yet a building
        u, v, size = dice.between(1.0, 5.0), dice.between(2.0, 4.0), dice.between(0.5, 0.9)
        corners = dice.pick((4, 12))
        turn = [math.pi / 4 + 2 * math.pi * i / corners for i in range(corners)]
        outline = [(x + side * (u + size * math.cos(t)), v + size * math.sin(t), near) for t in turn]
        canvas.face(outline, dice.any_color((0.4, 1.0), (0.4, 0.95)), owner)


def _windows(levels: np.ndarray, starts: np.ndarray, width: float, tall: float) -> np.ndarray:
    """Corners (N, 4, 3) of a grid of rectangles on a wall: nothing yet, height, position along the wall."""
    corners = np.zeros((len(levels), len(starts), 4, 3))
    corners[..., 1] = levels[:, None, None] + np.array([0.0, 0.0, tall, tall])
    corners[..., 2] = starts[None, :, None] + np.array([0.0, width, width, 0.0])
    return corners.reshape(-1, 4, 3)


def draw_tree(canvas: Canvas, dice: Dice, light: Light, x: float, z: float, leaves: Color, size: float) -> None:
    """A tree, ``size`` metres high: a crown of blobs, or a conifer."""
    board = canvas.board(x, z, Kind.VEGETATION, mirror=light.sun_x < 0)
    color = dice.vary(leaves, 0.25)
    if light.weather.snow:
        color = blend(color, (226, 230, 238), dice.between(0.1, 0.6))
    contrast = 0.25 + 0.5 * light.weather.sun
    board.polygon([(-0.16, 0.0), (0.16, 0.0), (0.1, 0.6 * size), (-0.1, 0.6 * size)], dice.pick(_BARK))
    if dice.chance(0.2):
        for tier in range(4):
            low, half = size * (0.16 + 0.2 * tier), size * (0.24 - 0.05 * tier)
            board.polygon([(-half, low), (half, low), (0.0, low + 0.36 * size)], shade(color, 0.8 - 0.1 * contrast))
            board.polygon(
                [(0.1 * half, low), (half, low), (0.0, low + 0.36 * size)], shade(color, 0.8 + 0.5 * contrast)
            )
        return
    middle, spread, rise = 0.66 * size, dice.between(0.24, 0.36) * size, 0.3 * size
    for layer in range(3):  # dark blobs below and away from the sun, bright ones above and towards it
        tone = 0.72 + contrast * 0.38 * layer
        for _ in range(7 - layer if z < 30.0 else 3):
            turn, reach = dice.between(0.0, 2 * math.pi), dice.random() ** 0.5
            u = reach * math.cos(turn) * spread * (1 - 0.15 * layer) + 0.18 * spread * layer
            v = middle + reach * math.sin(turn) * rise * (1 - 0.2 * layer) + 0.16 * rise * layer
            radius = spread * dice.between(0.3, 0.5) * (1 - 0.2 * layer)
            board.ellipse(u, v, radius, radius * 0.9, shade(color, tone * dice.between(0.9, 1.1)))


def draw_hedge(
    canvas: Canvas, dice: Dice, light: Light, leaves: Color, x: float, near: float, far: float, side: int
) -> None:
    """A clipped hedge along the street, with an uneven top."""
    height, depth = dice.between(0.8, 2.0), side * 1.0
    owner = code(Kind.VEGETATION, (near * far) ** 0.5)
    color = dice.vary(leaves, 0.2)
    canvas.face(
        [(x, 0.0, near), (x + depth, 0.0, near), (x + depth, height, near), (x, height, near)],
        shade(color, 0.8 * light.wall(0.0, -1.0)),
        owner,
    )
    steps = np.linspace(near, far, 8).tolist()
    top = [(x, height * dice.between(0.88, 1.1), z) for z in reversed(steps)]
    canvas.face([(x + depth, height, near), (x + depth, height, far), *top], shade(color, 1.15), owner)
    canvas.face([(x, 0.0, near), (x, 0.0, far), *top], shade(color, 0.9 * light.wall(-side, 0.0)), owner)


def draw_skyline(canvas: Canvas, dice: Dice, light: Light, leaves: Color, rural: float) -> None:
    """What closes the view at the horizon: hills with trees, or distant houses."""
    wooded = dice.chance(rural)
    depth = 78.0
    owner = code(Kind.VEGETATION if wooded else Kind.BUILDING, depth)
    color = shade(leaves, 0.85) if wooded else dice.vary((128, 126, 130), 0.2)
    left = -150.0
    while left < 150.0:
        width = dice.between(5.0, 12.0) if wooded else dice.between(6.0, 18.0)
        height = dice.between(5.0, 9.0) if wooded else dice.between(4.0, 18.0)
        tone = shade(color, dice.between(0.85, 1.1))
        if not canvas.sees(left + width / 2, depth, 2 * width, 0.0):
            pass
        elif wooded:
            board = canvas.board(left + width / 2, depth, Kind.VEGETATION)
            board.box(-width, 0.0, width, 0.6 * height, tone)
            board.ellipse(0.0, 0.6 * height, 0.8 * width, 0.5 * height, tone)
        else:
            canvas.face(
                [(left, 0.0, depth), (left + width, 0.0, depth), (left + width, height, depth), (left, height, depth)],
                tone,
                owner,
            )
        left += width


def draw_leaves(dice: Dice) -> Color:
    """The season's colour of leaves."""
    return dice.pick(_AUTUMN) if dice.chance(0.22) else dice.pick(_LEAVES)
