"""Composes a synthetic street scene: first what stands where, then everything drawn from far to near."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from evenseg.data.synthetic_car import draw_car
from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_furniture import draw_fence, draw_lamp, draw_pole, draw_sign
from evenseg.data.synthetic_ground import Street, draw_ground
from evenseg.data.synthetic_light import Light, draw_light
from evenseg.data.synthetic_people import draw_cyclist, draw_pedestrian
from evenseg.data.synthetic_surroundings import draw_building, draw_hedge, draw_leaves, draw_skyline, draw_tree
from evenseg.data.synthetic_world import Camera, Canvas, Color

FAR = 70.0  # metres; where the street ends
SIDES = (-1, 1)


class Extent(NamedTuple):
    """The room of a thing that stands alone, in metres.

    x: its middle. reach: how far from it the thing shows on either side; it is left out where the
    camera does not see that. foot: half width of its shadow.
    """

    x: float
    reach: float
    foot: float
    height: float


class Item(NamedTuple):
    """Something to draw, at a distance."""

    depth: float
    draw: Callable[[Canvas], object]
    extent: Extent | None = None


class Scene(NamedTuple):
    """What the composing functions share, and the list that they fill."""

    street: Street
    light: Light
    camera: Camera
    leaves: Color
    items: list[Item]
    lamps: list[tuple[float, float, float]]  # the street lamps that shine: (x, y, z)

    def add(self, depth: float, draw: Callable[..., object], dice: Dice, *arguments: object, **options: object) -> None:
        """Something long, like a building or a fence, that begins at ``depth``."""
        own = dice.fork()
        self.items.append(Item(depth, lambda canvas: draw(canvas, own, self.light, *arguments, **options)))

    def put(self, z: float, extent: Extent, draw: Callable[..., object], dice: Dice, *arguments: object) -> None:
        """Something that stands alone; ``draw`` is called with (canvas, dice, light, x, z, *arguments)."""
        own = dice.fork()
        self.items.append(Item(z, lambda canvas: draw(canvas, own, self.light, extent.x, z, *arguments), extent))

    def in_view(self, x: float, z: float) -> bool:
        """Whether (x, z) lies well inside a picture of usual format: where rare things should stand."""
        return abs(self.camera.project(x, 1.0, z)[0]) < 0.6


def draw_scene(
    seed: int, number: int, height: int, width: int
) -> tuple[Canvas, Light, list[tuple[float, float, float]]]:
    """Draw scene ``number`` of the street of ``seed``: the canvas, its light, and the lamps that shine."""
    dice = Dice(seed, "synthetic layout", number)
    light = draw_light(dice.fork())
    rural = dice.random()
    street = Street(dice.between(2.8, 5.5), dice.between(1.2, 4.2), dice.between(1.2, 4.2), rural)
    camera = Camera(
        focal=dice.between(0.95, 1.35),
        horizon=dice.between(0.36, 0.54),
        center=dice.between(-0.28, 0.28),
        height=dice.between(1.4, 2.3),
        offset=street.half_road * dice.between(-0.7, 0.7),
        roll=dice.between(-0.04, 0.04),
        curve=dice.between(-0.0035, 0.0035) if dice.chance(0.6) else 0.0,
    )
    scene = Scene(street, light, camera, draw_leaves(dice.fork()), [], [])
    for compose in (_lots, _avenues, _furniture, _signs, _cars, _people):
        compose(scene, dice.fork())

    canvas = Canvas(camera, height, width)
    draw_ground(canvas, dice.fork(), light, street)
    draw_skyline(canvas, dice.fork(), light, scene.leaves, rural)
    for item in sorted(scene.items, key=lambda item: -item.depth):
        if item.extent:
            _cast_shadow(canvas, light, item.depth, item.extent)
            if not canvas.sees(item.extent.x, item.depth, item.extent.reach, item.extent.height):
                continue
        item.draw(canvas)
    return canvas, light, scene.lamps


def _lots(scene: Scene, dice: Dice) -> None:
    """Both sides from near to far: buildings, groups of trees, and a fence or a hedge before some of them."""
    street, rural = scene.street, scene.street.rural
    for side in SIDES:
        near = dice.between(-4.0, 1.0)
        while near < FAR:
            start, far = max(near, 1.6), near + dice.between(7.0, 19.0)
            near = far
            if far < 3.0:
                continue
            setback = dice.between(0.0, 1.0) if rural < 0.35 else dice.between(2.0, 8.0) * rural
            edge = street.edge(side)
            if dice.chance(0.88 - 0.6 * rural):
                tall = dice.between(3.2, 7.5) if dice.chance(0.25 + 0.65 * rural) else dice.between(8.0, 22.0)
                x, end = edge + side * setback, far - dice.between(0.0, 0.8)
                scene.add(start + 0.3, draw_building, dice, side, x, start, end, tall)
                if scene.light.sun_x * side > 0:
                    scene.add(FAR + 20.0, _cast_wall_shadow, dice, x, start, end, tall)
            else:
                for _ in range(dice.count(1, 4)):
                    _tree(scene, dice, edge + side * dice.between(1.0, 12.0), dice.between(start + 1.0, far))
            if setback > 1.2:
                boundary, roll = edge + side * 0.15, dice.random()
                if roll < 0.52:
                    scene.add(start + 0.2, draw_fence, dice, boundary, start, far, side)
                elif roll < 0.7:
                    scene.add(start + 0.2, draw_hedge, dice, scene.leaves, boundary, start, far, side)


def _avenues(scene: Scene, dice: Dice) -> None:
    for side in SIDES:
        z, gap = dice.between(4.0, 9.0), dice.between(6.0, 12.0)
        if dice.chance(0.3):
            while z < 50.0:
                _tree(scene, dice, scene.street.kerb(side) + side * 0.7, z)
                z += gap


def _tree(scene: Scene, dice: Dice, x: float, z: float) -> None:
    size = dice.between(3.5, 8.5) if dice.chance(0.8) else dice.between(1.0, 2.0)
    scene.put(z, Extent(x, 0.45 * size, 0.22 * size, size), draw_tree, dice, scene.leaves, size)


def _furniture(scene: Scene, dice: Dice) -> None:
    """Lamp posts and poles on the walks; now and then a railing at the kerb."""
    for side in SIDES:
        kerb = scene.street.kerb(side)
        z, gap = dice.between(6.0, 16.0), dice.between(14.0, 24.0)
        if dice.chance(0.4):
            while z < 60.0:
                scene.put(z, Extent(kerb + side * 0.45, 12.0, 0.12, 6.0), draw_lamp, dice, side, scene.lamps)
                z += gap
        for _ in range(dice.pick((0, 0, 1, 1, 2))):
            extent = Extent(kerb + side * dice.between(0.3, 1.2), 0.9, 0.15, 6.0)
            scene.put(dice.between(5.0, 25.0), extent, draw_pole, dice)
        if dice.chance(0.1):
            near = dice.between(3.0, 12.0)
            scene.add(near, draw_fence, dice, kerb + side * 0.25, near, near + dice.between(4.0, 10.0), side)


def _signs(scene: Scene, dice: Dice) -> None:
    if dice.chance(0.22):
        for _ in range(6):
            side = 1 if dice.chance(0.7) else -1
            x, z = scene.street.kerb(side) + side * dice.between(0.2, 1.4), dice.between(5.0, 13.0)
            if scene.in_view(x, z):
                scene.put(z, Extent(x, 0.7, 0.3, 2.8), draw_sign, dice)
                return


def _cars(scene: Scene, dice: Dice) -> None:
    """Parked along the kerb, driving ahead or towards the camera, turning."""
    half_road = scene.street.half_road

    def car(x: float, z: float, yaw: float) -> None:
        scene.put(z, Extent(x, 2.6, 1.1, 1.5), draw_car, dice, yaw)

    for side in SIDES:
        along = 0.0 if side > 0 else math.pi
        if dice.chance(0.5):
            z = dice.between(5.0, 14.0)
            for _ in range(dice.count(1, 5)):
                car(side * (half_road - dice.between(0.7, 1.1)), z, along + dice.between(-0.05, 0.05))
                z += dice.between(5.4, 9.0)
    for _ in range(dice.count(0, 2)):
        side = dice.pick(SIDES)
        car(
            side * 0.45 * half_road, dice.between(9.0, 40.0), dice.between(-0.06, 0.06) + (0.0 if side > 0 else math.pi)
        )
    if dice.chance(0.08):
        car(dice.between(-1.0, 1.0) * half_road, dice.between(9.0, 22.0), dice.pick(SIDES) * dice.between(0.6, 2.4))


def _people(scene: Scene, dice: Dice) -> None:
    """Pedestrians, mostly on the walks; more rarely a cyclist, mostly on the road."""
    street = scene.street
    if dice.chance(0.36):
        for _ in range(dice.pick((1, 2, 2, 3, 3, 4))):
            side = dice.pick(SIDES)
            on_walk, on_road = (
                street.kerb(side) + side * dice.between(0.3, 2.2),
                dice.between(-1.0, 1.0) * street.half_road,
            )
            x, z = on_road if dice.chance(0.2) else on_walk, dice.between(4.5, 16.0)
            if scene.in_view(x, z) or dice.chance(0.3):
                scene.put(z, Extent(x, 0.7, 0.24, 1.7), draw_pedestrian, dice)
    if dice.chance(0.12):
        crossing, side = dice.chance(0.5), dice.pick(SIDES)
        x = (
            dice.between(-0.9, 0.9) * street.half_road
            if crossing
            else side * street.half_road * dice.between(0.3, 0.95)
        )
        scene.put(dice.between(5.5, 13.0), Extent(x, 0.95, 0.4, 1.6), draw_cyclist, dice, crossing)


def _cast_wall_shadow(canvas: Canvas, _: Dice, light: Light, x: float, near: float, far: float, height: float) -> None:
    """The shadow of a building on walk and road."""
    across, along = -light.sun_x * light.reach * height, -light.sun_z * light.reach * height * 0.3
    canvas.cast([(x, 0.0, near), (x, 0.0, far), (x + across, 0.0, far + along), (x + across, 0.0, near + along)])


def _cast_shadow(canvas: Canvas, light: Light, z: float, extent: Extent) -> None:
    """The dark patch under a thing, and the shadow it throws away from the sun."""
    left, right = extent.x - extent.foot, extent.x + extent.foot
    canvas.cast([(left, 0.0, z), (right, 0.0, z), (right, 0.0, z + 0.6), (left, 0.0, z + 0.6)], 160)
    across, along = -light.sun_x * light.reach * extent.height, -light.sun_z * light.reach * extent.height
    tip = max(z + along, 1.5)
    canvas.cast([(left, 0.0, z), (right, 0.0, z), (right + across, 0.0, tip), (left + across, 0.0, tip)])
