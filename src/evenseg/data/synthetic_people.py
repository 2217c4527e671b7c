"""Who moves in the synthetic streets on foot and on bicycles."""

from __future__ import annotations

import math

from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_light import Light
from evenseg.data.synthetic_world import Board, Canvas, Color, Kind, shade

_BLACK = (24, 24, 26)
_SKINS = ((241, 206, 178), (224, 178, 140), (184, 132, 94), (130, 88, 60), (88, 58, 42))


def draw_pedestrian(canvas: Canvas, dice: Dice, light: Light, x: float, z: float) -> None:
    """Somebody on foot, 1.1 m to 1.95 m tall, seen from any side."""
    board = canvas.board(x, z, Kind.PEDESTRIAN, mirror=dice.chance(0.5))
    size = dice.between(1.55, 1.92) if dice.chance(0.85) else dice.between(1.05, 1.4)
    coat, trousers = _clothes(dice), _clothes(dice)
    stride = dice.between(0.0, 0.2) * size
    lean = dice.between(-0.02, 0.05) * size
    for step, tone in ((stride, 0.75), (-stride, 1.0)):
        color = shade(trousers, tone)
        board.line([(0.02, 0.5 * size), (step * 0.5 + 0.03, 0.27 * size), (step, 0.03 * size)], 0.1 * size, color)
        board.ellipse(step + 0.05, 0.03 * size, 0.09, 0.05, _BLACK)
    swing = dice.between(-0.18, 0.18) * size
    board.line(
        [(lean, 0.8 * size), (lean - swing * 0.6, 0.62 * size), (-swing, 0.46 * size)], 0.07 * size, shade(coat, 0.7)
    )
    hem = dice.pick((0.47, 0.44, 0.28))
    flare = 0.12 if hem > 0.4 else dice.between(0.12, 0.19)
    torso = [
        (-flare * size, hem * size),
        (flare * size, hem * size),
        (lean + 0.13 * size, 0.8 * size),
        (lean - 0.13 * size, 0.8 * size),
    ]
    board.polygon(torso, coat)
    board.polygon([torso[0], (0.0, hem * size), (lean, 0.8 * size), torso[3]], shade(coat, 0.84))
    if dice.chance(0.3):  # a bag
        board.box(
            lean - 0.24 * size, 0.5 * size, lean - 0.1 * size, 0.72 * size, dice.any_color((0.2, 0.8), (0.2, 0.8))
        )
    board.line(
        [(lean, 0.79 * size), (lean + swing * 0.6, 0.62 * size), (swing, 0.47 * size)], 0.07 * size, shade(coat, 0.92)
    )
    _head(board, dice, lean * 1.3, 0.9 * size, 0.075 * size)
    if dice.chance(0.5 if light.weather.rain else 0.04):
        _umbrella(board, dice, size)


def draw_cyclist(canvas: Canvas, dice: Dice, light: Light, x: float, z: float, crossing: bool) -> None:
    """Somebody on a bicycle, from the side (``crossing``) or from the front or the back."""
    board = canvas.board(x, z, Kind.CYCLIST, mirror=dice.chance(0.5))
    coat, trousers, frame = _clothes(dice), _clothes(dice), dice.any_color((0.4, 1.0), (0.3, 0.95))
    skin = dice.pick(_SKINS)
    helmet = dice.chance(0.6)
    if crossing:
        for u in (-0.52, 0.52):
            board.disc(u, 0.35, 0.36, _BLACK)
            board.disc(u, 0.35, 0.27, dice.vary((112, 112, 112), 0.25))
        board.line([(-0.52, 0.35), (-0.2, 0.85), (0.38, 0.85), (0.0, 0.33), (-0.52, 0.35)], 0.07, frame)
        board.line([(0.52, 0.35), (0.36, 0.98), (0.5, 1.05)], 0.07, frame)
        board.line([(-0.2, 0.95), (0.12, 0.66), (dice.between(-0.05, 0.12), dice.between(0.18, 0.42))], 0.15, trousers)
        board.polygon([(-0.34, 0.86), (-0.1, 0.84), (0.32, 1.3), (0.14, 1.46)], coat)
        board.line([(0.2, 1.36), (0.36, 1.12), (0.5, 1.06)], 0.1, shade(coat, 0.8))
        head = (0.34, 1.56)
    else:
        board.ellipse(0.0, 0.35, 0.07, 0.36, _BLACK)
        board.line([(0.0, 0.5), (0.0, 1.0)], 0.08, frame)
        board.line([(-0.32, 1.04), (0.32, 1.04)], 0.06, _BLACK)
        lift = dice.between(0.2, 0.45)
        board.line([(-0.1, 0.95), (-0.17, 0.62), (-0.13, lift)], 0.14, trousers)
        board.line([(0.1, 0.95), (0.17, 0.6), (0.13, 0.62 - lift)], 0.14, shade(trousers, 0.8))
        board.polygon([(-0.18, 0.88), (0.18, 0.88), (0.25, 1.4), (-0.25, 1.4)], coat)
        for u in (-1, 1):
            board.line([(0.22 * u, 1.36), (0.36 * u, 1.16), (0.3 * u, 1.04)], 0.1, shade(coat, 0.8))
        head = (0.0, 1.53)
    board.disc(*head, 0.13, skin)
    if helmet:
        board.ellipse(head[0], head[1] + 0.07, 0.17, 0.1, dice.any_color((0.2, 1.0), (0.3, 0.95)))
    else:
        board.ellipse(head[0], head[1] + 0.08, 0.13, 0.08, dice.vary((70, 50, 36), 0.5))
    if light.weather.night:
        board.become(Kind.CYCLIST, glows=True)
        board.disc(0.55 if crossing else 0.0, 0.85, 0.07, (255, 244, 210))


def _clothes(dice: Dice) -> Color:
    if dice.chance(0.45):
        return dice.vary(dice.pick(((34, 36, 44), (52, 58, 76), (96, 90, 84), (140, 132, 120))), 0.35)
    return dice.any_color((0.2, 0.9), (0.25, 0.95))


def _head(board: Board, dice: Dice, u: float, v: float, radius: float) -> None:
    board.disc(u, v, radius, dice.pick(_SKINS))
    hair = dice.vary(dice.pick(((34, 28, 24), (92, 62, 38), (196, 158, 96), (120, 118, 116))), 0.2)
    board.ellipse(u - 0.2 * radius, v + 0.45 * radius, 1.05 * radius, 0.7 * radius, hair)


def _umbrella(board: Board, dice: Dice, size: float) -> None:
    color = dice.any_color((0.3, 0.95), (0.3, 0.9))
    board.line([(0.14, 0.6 * size), (0.08, 1.2 * size)], 0.03, (60, 60, 60))
    arc = [
        (0.08 + 0.52 * math.cos(turn), 1.0 * size + 0.36 * math.sin(turn))
        for turn in (i * math.pi / 6 for i in range(7))
    ]
    board.polygon(arc, color)
    board.polygon([arc[0], arc[1], arc[2], arc[3], (0.08, 1.0 * size)], shade(color, 0.85))
