"""What stands along the synthetic streets: traffic signs, lamp posts, poles, fences."""

from __future__ import annotations

import math

import numpy as np

from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_light import Light
from evenseg.data.synthetic_world import Board, Canvas, Color, Kind, Point, code, shade

_METALS = ((128, 130, 132), (92, 96, 98), (60, 64, 64), (150, 146, 138), (104, 78, 58), (58, 78, 66))
_RED, _BLUE, _WHITE, _YELLOW = (196, 24, 32), (22, 74, 168), (238, 238, 236), (244, 196, 30)


def draw_sign(canvas: Canvas, dice: Dice, light: Light, x: float, z: float) -> None:
    """One or two traffic signs on a post; now and then seen from behind."""
    post = canvas.board(x, z, Kind.POLE)
    middle = dice.between(1.9, 2.9)
    radius = dice.between(0.4, 0.55)
    post.box(-0.06, 0.0, 0.06, middle + 0.2, shade(dice.pick(_METALS), light.wall(0.0, -1.0)))
    face = canvas.board(x, z, Kind.TRAFFIC_SIGN)
    if dice.chance(0.12):
        _polygon(face, middle, radius, dice.pick((3, 4, 8, 16)), dice.vary((120, 122, 124), 0.2))
        return
    light_factor = 0.75 + 0.25 * light.wall(0.0, -1.0)
    dice.pick((_warning, _prohibition, _obligation, _stop, _priority, _yield, _panel))(
        face, dice, middle, radius, light_factor
    )
    if dice.chance(0.2):
        face.box(-radius, middle - 1.75 * radius, radius, middle - 1.15 * radius, shade(_WHITE, light_factor))


def _polygon(face: Board, middle: float, radius: float, corners: int, color: Color, turn: float | None = None) -> None:
    turn = math.pi / 2 if turn is None else turn
    ring = [turn + 2 * math.pi * i / corners for i in range(corners)]
    face.polygon([(radius * math.cos(t), middle + radius * math.sin(t)) for t in ring], color)


def _warning(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    _polygon(face, middle, 1.25 * radius, 3, shade(_RED, factor))
    _polygon(face, middle, 0.75 * radius, 3, shade(dice.pick((_WHITE, _YELLOW)), factor))
    face.box(-0.05, middle - 0.2 * radius, 0.05, middle + 0.3 * radius, (30, 30, 30))


def _prohibition(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    face.disc(0.0, middle, radius, shade(_RED, factor))
    if dice.chance(0.4):
        face.box(-0.7 * radius, middle - 0.2 * radius, 0.7 * radius, middle + 0.2 * radius, shade(_WHITE, factor))
    else:
        face.disc(0.0, middle, 0.7 * radius, shade(_WHITE, factor))
        face.box(-0.3 * radius, middle - 0.3 * radius, 0.3 * radius, middle + 0.3 * radius, (40, 40, 40))


def _obligation(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    face.disc(0.0, middle, radius, shade(_BLUE, factor))
    turn = dice.pick((0.0, 45.0, 135.0))
    face.ellipse(0.0, middle, 0.6 * radius, 0.18 * radius, shade(_WHITE, factor), turn)


def _stop(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    _polygon(face, middle, 1.08 * radius, 8, shade(_WHITE, factor), math.pi / 8)
    _polygon(face, middle, 0.96 * radius, 8, shade(_RED, factor), math.pi / 8)
    face.box(-0.65 * radius, middle - 0.16 * radius, 0.65 * radius, middle + 0.16 * radius, shade(_WHITE, factor))


def _priority(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    _polygon(face, middle, 1.2 * radius, 4, shade(_WHITE, factor))
    _polygon(face, middle, 0.85 * radius, 4, shade(_YELLOW, factor))


def _yield(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    _polygon(face, middle, 1.25 * radius, 3, shade(_RED, factor), -math.pi / 2)
    _polygon(face, middle, 0.7 * radius, 3, shade(_WHITE, factor), -math.pi / 2)


def _panel(face: Board, dice: Dice, middle: float, radius: float, factor: float) -> None:
    face.box(-radius, middle - radius, radius, middle + radius, shade(_BLUE, factor))
    face.box(-0.55 * radius, middle - 0.6 * radius, 0.55 * radius, middle + 0.5 * radius, shade(_WHITE, factor))
    face.box(-0.3 * radius, middle - 0.3 * radius, 0.0, middle + 0.3 * radius, shade(_BLUE, factor))


def draw_lamp(canvas: Canvas, dice: Dice, light: Light, x: float, z: float, side: int, shining: list[Point]) -> None:
    """A lamp post whose arm reaches over the road; at night the place of its lamp is added to ``shining``."""
    board = canvas.board(x, z, Kind.POLE, mirror=side > 0)
    metal = shade(dice.pick(_METALS), light.wall(-side, -1.0) * 0.9)
    height, reach = dice.between(5.0, 8.0), dice.between(0.6, 2.0)
    board.polygon([(-0.12, 0.0), (0.12, 0.0), (0.07, height), (-0.07, height)], metal)
    board.line([(0.0, height), (0.4 * reach, height + 0.25), (reach, height + 0.2)], 0.1, metal)
    board.become(Kind.POLE, glows=light.weather.night)
    board.ellipse(reach, height + 0.16, 0.32, 0.12, (255, 226, 160) if light.weather.night else metal)
    if light.weather.night:
        shining.append((x - side * reach, height, z))


def draw_pole(canvas: Canvas, dice: Dice, light: Light, x: float, z: float) -> None:
    """A plain pole: of a power line, with cross-arms, or a bollard with a stripe."""
    board = canvas.board(x, z, Kind.POLE)
    metal = shade(dice.vary(dice.pick(_METALS), 0.2), light.wall(0.0, -1.0))
    if dice.chance(0.3):
        board.box(-0.1, 0.0, 0.1, 1.0, metal)
        board.box(-0.1, 0.7, 0.1, 0.85, dice.pick((_WHITE, _RED, _YELLOW)))
        return
    height = dice.between(6.0, 9.0)
    board.polygon([(-0.15, 0.0), (0.15, 0.0), (0.1, height), (-0.1, height)], metal)
    if dice.chance(0.5):
        board.line([(-0.9, height - 0.6), (0.9, height - 0.6)], 0.1, shade(metal, 0.8))
        board.line([(-0.7, height - 1.2), (0.7, height - 1.2)], 0.1, shade(metal, 0.8))


def draw_fence(canvas: Canvas, dice: Dice, light: Light, x: float, near: float, far: float, side: int) -> None:
    """A fence along the street at ``x``, from ``near`` to ``far``; see-through or not, it owns its whole face."""
    height = dice.between(0.9, 1.7)
    owner = code(Kind.FENCE, (near * far) ** 0.5)
    factor = light.wall(-side, 0.0)
    style = dice.pick(("planks", "bars", "wall", "rails"))
    outline = [(x, 0.0, near), (x, height, near), (x, height, far), (x, 0.0, far)]
    if style in ("planks", "wall"):
        wooden = ((150, 112, 74), (104, 76, 54), (222, 220, 212), (92, 104, 84))
        color = dice.vary(
            dice.pick(wooden if style == "planks" else ((170, 164, 152), (134, 128, 122), (150, 96, 76))), 0.2
        )
        canvas.face(outline, shade(color, factor), owner)
        gaps = np.arange(near, far, 0.5 if style == "planks" else 2.5)
        canvas.faces(_uprights(x, gaps, 0.09, 0.0, height), shade(color, factor * 0.7), owner)
        cap = [(x, height, near), (x, height + 0.12, near), (x, height + 0.12, far), (x, height, far)]
        canvas.face(cap, shade(color, min(factor * 1.15, 1.2)), owner)
        return
    color = shade(
        dice.vary(dice.pick(((60, 64, 66), (150, 152, 152), (46, 70, 56), (214, 210, 200), (120, 90, 62))), 0.2), factor
    )
    canvas.claim(outline, owner)
    rails = (0.1, 0.9) if style == "bars" else (0.2, 0.55, 0.9)
    for share in rails:
        low = share * height
        canvas.face([(x, low, near), (x, low + 0.1, near), (x, low + 0.1, far), (x, low, far)], color, owner)
    canvas.faces(_uprights(x, np.arange(near, far, 0.4 if style == "bars" else 1.8), 0.12, 0.0, height), color, owner)


def _uprights(x: float, start: np.ndarray, width: float, low: float, high: float) -> np.ndarray:
    """Thin upright quads in the plane ``x``: (N, 4, 3)."""
    corners = np.empty((len(start), 4, 3))
    corners[..., 0] = x
    corners[..., 1] = (low, high, high, low)
    corners[..., 2] = start[:, None] + np.array([0.0, 0.0, width, width])
    return corners
