"""Who moves in the synthetic streets: cars, pedestrians, cyclists."""

from __future__ import annotations

import math

from evenseg.data.synthetic_light import Dice, Light
from evenseg.data.synthetic_world import Board, Canvas, Color, Kind, Point, blend, code, shade

_TIRE = (24, 24, 26)
_GLASS = (52, 66, 82)
_SKINS = ((241, 206, 178), (224, 178, 140), (184, 132, 94), (130, 88, 60), (88, 58, 42))
_PAINTS = ((232, 232, 230), (28, 29, 33), (122, 126, 130), (178, 182, 186), (150, 28, 32), (34, 62, 128), (66, 84, 64))

# Outlines from the side, tail to bonnet: (share of the length, share of the height). Between the two
# marked corners lies the cabin with its windows.
_SHAPES = {
    "sedan": ((4.5, 1.75, 1.45), ((0.0, 0.62), (0.16, 0.66), (0.3, 1.0), (0.58, 1.0), (0.74, 0.66), (1.0, 0.56))),
    "hatchback": ((3.8, 1.7, 1.5), ((0.0, 0.6), (0.04, 0.66), (0.14, 1.0), (0.6, 1.0), (0.78, 0.64), (1.0, 0.54))),
    "offroad": ((4.6, 1.9, 1.85), ((0.0, 0.6), (0.02, 0.62), (0.06, 1.0), (0.62, 1.0), (0.74, 0.64), (1.0, 0.58))),
    "van": ((5.2, 2.0, 2.3), ((0.0, 0.55), (0.01, 0.6), (0.03, 1.0), (0.72, 1.0), (0.9, 0.58), (1.0, 0.48))),
}


def draw_car(canvas: Canvas, dice: Dice, light: Light, x: float, z: float, yaw: float) -> None:
    """A car with its middle at (x, z), driving in direction ``yaw`` (0 = away from the camera)."""
    (length, width, height), outline = _SHAPES[
        dice.pick(("sedan", "sedan", "hatchback", "hatchback", "offroad", "van"))
    ]
    paint = dice.vary(dice.pick(_PAINTS), 0.2) if dice.chance(0.6) else dice.any_color((0.3, 0.95), (0.3, 0.9))
    glass = blend(_GLASS, (150, 170, 190), dice.between(0.0, 0.5))
    ground = 0.28  # the sills' height above the road
    sin, cos = math.sin(yaw), math.cos(yaw)
    body = code(Kind.CAR, z)

    def at(along: float, across: float, up: float) -> Point:
        along = (along - 0.5) * length
        return x + along * sin + across * cos, up, z + along * cos - across * sin

    half = width / 2
    outline = tuple((along, ground + (height - ground) * (up - 0.1) / 0.9) for along, up in outline)
    wheel_radius = 0.34 if height < 1.7 else 0.38
    for across in (-half, half):  # the shadow between the wheels, and the wheels on the far side
        canvas.face(
            [at(0.02, across, 0.12), at(0.98, across, 0.12), at(0.98, across, 0.5), at(0.02, across, 0.5)], _TIRE, body
        )
    canvas.face([at(0.02, -half, 0.1), at(0.02, half, 0.1), at(0.98, half, 0.1), at(0.98, -half, 0.1)], _TIRE, body)

    # which flank and which end the camera sees
    view_x, view_z = x - canvas.camera.offset, z
    flank = -half if view_x * cos - view_z * sin > 0 else half
    shows_tail = view_x * sin + view_z * cos > 0
    flank_light = light.wall(math.copysign(cos, flank) if cos else 0.0, -math.copysign(sin, flank))
    end_light = light.wall(-sin if shows_tail else sin, -cos if shows_tail else cos)

    tops = list(zip(outline, outline[1:], strict=False))
    for (a0, up0), (a1, up1) in tops if shows_tail else tops[::-1]:
        pillar = 0.84 if max(up0, up1) > 0.9 * height else 1.0
        steep = abs(up1 - up0) > 0.2 * height
        face = [at(a0, -half, up0), at(a0, half, up0), at(a1, half * pillar, up1), at(a1, -half * pillar, up1)]
        if up0 > up1:
            face = [at(a0, -half * pillar, up0), at(a0, half * pillar, up0), at(a1, half, up1), at(a1, -half, up1)]
        canvas.face(face, shade(glass, end_light) if steep else shade(paint, 1.12), body)
    # the flank: sheet metal, then windows, then wheels
    side = [at(a, flank, up) for a, up in outline]
    canvas.face([at(0.0, flank, ground), *side, at(1.0, flank, ground)], shade(paint, flank_light), body)
    (a1, up1), (a2, up2), (a3, up3), (a4, up4) = outline[1:5]
    waist, roof = max(up1, up4) + 0.02, up2 - 0.09
    window = [
        at(a1 + 0.05, flank, waist),
        at(a2 + 0.01, flank, roof),
        at(a3 - 0.01, flank, roof),
        at(a4 - 0.05, flank, waist),
    ]
    canvas.face(window, shade(glass, flank_light), body)
    middle = (a2 + a3) / 2
    canvas.face([at(middle, flank, waist), at(middle, flank, roof), at(middle + 0.02, flank, roof), at(middle + 0.02, flank, waist)],
                shade(paint, flank_light * 0.8), body)  # fmt: skip
    for wheel in (0.19, 0.81):
        ring = [(math.cos(turn), math.sin(turn)) for turn in (i * math.pi / 5 for i in range(10))]
        for radius, color in ((wheel_radius, _TIRE), (wheel_radius * 0.55, (120, 122, 126))):
            canvas.face(
                [at(wheel + c * radius / length, flank, wheel_radius + s * radius) for c, s in ring], color, body
            )
    _draw_car_end(
        canvas, dice, light, at, outline, half, shade(paint, end_light), shade(glass, end_light), z, shows_tail
    )


def _draw_car_end(
    canvas: Canvas,
    dice: Dice,
    light: Light,
    at,
    outline,
    half: float,
    paint: Color,
    glass: Color,
    z: float,
    tail: bool,  # type: ignore[no-untyped-def]
) -> None:
    """The end that faces the camera: bumper, lights, number plate; lights shine at night."""
    along, top = outline[0] if tail else outline[-1]
    body = code(Kind.CAR, z)

    def panel(u0: float, v0: float, u1: float, v1: float, color: Color, panel_code: int = body) -> None:
        low, high = 0.28 + (top - 0.28) * v0, 0.28 + (top - 0.28) * v1
        corners = [
            at(along, half * u0, low),
            at(along, half * u1, low),
            at(along, half * u1, high),
            at(along, half * u0, high),
        ]
        canvas.face(corners, color, panel_code)

    panel(-1, -0.1, 1, 1, paint)
    panel(-1, -0.12, 1, 0.22, shade(paint, 0.6))
    if not tail:
        panel(-0.5, 0.3, 0.5, 0.6, (34, 35, 38))
    panel(-0.25, 0.1, 0.25, 0.3, (226, 226, 214))
    shines = light.weather.night or dice.chance(0.15)
    lamp = ((255, 46, 36) if tail else (255, 246, 214)) if shines else ((150, 20, 22) if tail else (214, 218, 222))
    for u in (-0.95, 0.62):
        panel(u, 0.55, u + 0.33, 0.88, lamp, code(Kind.CAR, z, glows=shines))


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
        board.ellipse(step + 0.05, 0.03 * size, 0.09, 0.05, _TIRE)
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
            board.disc(u, 0.35, 0.36, _TIRE)
            board.disc(u, 0.35, 0.27, dice.vary((112, 112, 112), 0.25))
        board.line([(-0.52, 0.35), (-0.2, 0.85), (0.38, 0.85), (0.0, 0.33), (-0.52, 0.35)], 0.07, frame)
        board.line([(0.52, 0.35), (0.36, 0.98), (0.5, 1.05)], 0.07, frame)
        board.line([(-0.2, 0.95), (0.12, 0.66), (dice.between(-0.05, 0.12), dice.between(0.18, 0.42))], 0.15, trousers)
        board.polygon([(-0.34, 0.86), (-0.1, 0.84), (0.32, 1.3), (0.14, 1.46)], coat)
        board.line([(0.2, 1.36), (0.36, 1.12), (0.5, 1.06)], 0.1, shade(coat, 0.8))
        head = (0.34, 1.56)
    else:
        board.ellipse(0.0, 0.35, 0.07, 0.36, _TIRE)
        board.line([(0.0, 0.5), (0.0, 1.0)], 0.08, frame)
        board.line([(-0.32, 1.04), (0.32, 1.04)], 0.06, _TIRE)
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
