"""The stage of the synthetic scenes: classes, camera and a canvas that draws colour and class at once.

Lengths are metres: x to the right, y up from the ground, z away from the camera. Image lengths are
fractions of the image height, so that a scene looks the same at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import cv2
import numpy as np

Color = tuple[int, int, int]
Point = tuple[float, float, float]

SUPERSAMPLING = 2  # canvas pixels per image pixel and axis
NEAREST = 1.5  # metres; what comes closer is drawn at this distance
_SHIFT = 4  # cv2 draws in fixed point: 16ths of a canvas pixel
_ONE = 1 << _SHIFT


class Kind(IntEnum):
    """What a pixel shows; the class ids, frequent ones first."""

    ROAD = 0
    BUILDING = 1
    VEGETATION = 2
    SKY = 3
    SIDEWALK = 4
    CAR = 5
    FENCE = 6
    POLE = 7
    PEDESTRIAN = 8
    TRAFFIC_SIGN = 9
    CYCLIST = 10


# Every canvas pixel carries a code: its kind, its distance in ten levels, and whether it glows by itself.
# Level 0 is the ground, whose distance follows from the image row.
LEVELS = 10
LEVEL_DEPTH = np.array([0.0] + [4.0 * 1.45**level for level in range(LEVELS - 1)], np.float32)  # metres
CODE_KIND = np.minimum(np.arange(256) // (2 * LEVELS), len(Kind) - 1).astype(np.uint8)
CODE_DEPTH = LEVEL_DEPTH[np.arange(256) // 2 % LEVELS]
CODE_GLOWS = (np.arange(256) % 2).astype(bool)
_LEVEL_BORDERS = [float(border) for border in np.sqrt(LEVEL_DEPTH[1:-1] * LEVEL_DEPTH[2:])]


def ground_code(kind: Kind) -> int:
    """Code of the ground surface of a kind."""
    return kind * LEVELS * 2


def code(kind: Kind, depth: float, *, glows: bool = False) -> int:
    """Code of a thing of this kind at ``depth`` metres."""
    level = 1 + sum(depth > border for border in _LEVEL_BORDERS)
    return (kind * LEVELS + level) * 2 + glows


def shade(color: Color, factor: float) -> Color:
    """The colour under more (factor > 1) or less light."""
    red, green, blue = color
    return min(int(red * factor), 255), min(int(green * factor), 255), min(int(blue * factor), 255)


def blend(first: Color, second: Color, share: float) -> Color:
    """``share`` of the second colour, the rest of the first."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Camera(NamedTuple):
    """A pinhole camera above a street that may bend.

    focal: focal length in image heights. horizon: image row of the horizon in image heights.
    center: column of the vanishing point, image heights from the middle. height: metres above the
    ground. offset: metres right of the road's middle. roll: radians. curve: bend in 1/metre.
    """

    focal: float
    horizon: float
    center: float
    height: float
    offset: float
    roll: float
    curve: float

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Column (from the middle) and row of a point, in image heights."""
        z = max(z, NEAREST)
        column = self.center + self.focal * ((x - self.offset) / z + self.curve * z)
        row = self.horizon + self.focal * (self.height - y) / z
        return column - self.roll * (row - 0.5), row + self.roll * column

    def row_depth(self, row: np.ndarray) -> np.ndarray:
        """Distance in metres of the ground seen in image rows (in heights), at most 200."""
        return self.focal * self.height / np.maximum(row - self.horizon, self.focal * self.height / 200.0)


class Canvas:
    """Colour and code of every pixel, drawn together: (H, W, 4) uint8, the code in the last channel."""

    def __init__(self, camera: Camera, height: int, width: int) -> None:
        self.camera = camera
        self.height = height * SUPERSAMPLING
        self.width = width * SUPERSAMPLING
        self.pixels = np.zeros((self.height, self.width, 4), np.uint8)
        self.shadow = np.zeros((self.height, self.width), np.uint8)  # what keeps the sun from the ground
        self._scale = self.height * _ONE  # image heights to fixed-point pixels
        self._middle = self.width * _ONE / 2

    def outline(self, points: Sequence[Point]) -> np.ndarray:
        """Fixed-point canvas positions (N, 2) int32 of points in the world."""
        # what every polygon needs: Camera.project written out, since calls per point would double the time of a scene
        focal, horizon, center, camera_height, offset, roll, curve = self.camera
        scale, middle, fixed = self._scale, self._middle, []
        for x, y, z in points:
            near = focal / (z if z > NEAREST else NEAREST)
            column = center + near * (x - offset) + focal * curve * (z if z > NEAREST else NEAREST)
            row = horizon + near * (camera_height - y)
            fixed.append((int(middle + scale * (column - roll * (row - 0.5))), int(scale * (row + roll * column))))
        return np.array(fixed, np.int32)

    def sees(self, x: float, z: float, half: float, height: float) -> bool:
        """Whether a thing standing at (x, z) may reach into the picture, ``half`` metres to both sides."""
        border = 0.5 * self.width / self.height
        foot, head = (self.camera.project(x, y, z)[0] for y in (0.0, height))
        reach = self.camera.focal * half / max(z, NEAREST)
        return min(foot, head) - reach < border and max(foot, head) + reach > -border

    def face(self, points: Sequence[Point], color: Color, code: int) -> None:
        """A filled polygon in the world."""
        cv2.fillPoly(self.pixels, [self.outline(points)], (*color, code), cv2.LINE_8, _SHIFT)

    def faces(self, corners: np.ndarray, color: Color, code: int) -> None:
        """Many filled quads of one colour. corners: (N, 4, 3) float, in the world; must not overlap."""
        if len(corners) == 0:
            return
        camera = self.camera
        z = np.maximum(corners[..., 2], NEAREST)
        column = camera.center + camera.focal * ((corners[..., 0] - camera.offset) / z + camera.curve * z)
        row = camera.horizon + camera.focal * (camera.height - corners[..., 1]) / z
        fixed = np.empty((*z.shape, 2), np.int32)
        fixed[..., 0] = self._middle + (column - camera.roll * (row - 0.5)) * self._scale
        fixed[..., 1] = (row + camera.roll * column) * self._scale
        cv2.fillPoly(self.pixels, list(fixed), (*color, code), cv2.LINE_8, _SHIFT)

    def strip(self, left: float, right: float, near: float, far: float, color: Color, code: int) -> None:
        """A strip of ground along the street, following its bend."""
        stations = [near * (far / near) ** (step / 8) for step in range(9)]
        self.face([(left, 0.0, z) for z in stations] + [(right, 0.0, z) for z in reversed(stations)], color, code)

    def cast(self, points: Sequence[Point], strength: int = 255) -> None:
        """A shadow polygon; ``strength`` from 0 to 255."""
        cv2.fillPoly(self.shadow, [self.outline(points)], (strength,), cv2.LINE_8, _SHIFT)

    def claim(self, points: Sequence[Point], code: int) -> None:
        """Give a polygon to a thing without painting it: the gaps of a fence belong to the fence."""
        corners = self.outline(points)
        x0, y0 = np.maximum(corners.min(axis=0) >> _SHIFT, 0).tolist()
        x1, y1 = np.minimum((corners.max(axis=0) >> _SHIFT) + 2, (self.width, self.height)).tolist()
        if x0 >= x1 or y0 >= y1:
            return
        inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(inside, [corners - np.array([x0, y0], np.int32) * _ONE], (1,), cv2.LINE_8, _SHIFT)
        self.pixels[y0:y1, x0:x1, 3][inside > 0] = code

    def board(self, x: float, z: float, kind: Kind, *, mirror: bool = False) -> Board:
        """A flat upright thing standing at (x, z), drawn in metres around its foot."""
        return Board(self, x, z, kind, mirror)


class Board:
    """Draws on an upright plane that faces the camera: u metres to the right of the foot, v metres up."""

    def __init__(self, canvas: Canvas, x: float, z: float, kind: Kind, mirror: bool) -> None:
        self._pixels = canvas.pixels
        self._x, self._y = canvas.outline([(x, 0.0, z)])[0].tolist()
        self._scale = canvas.camera.focal / max(z, NEAREST) * canvas.height * _ONE  # fixed-point pixels per metre
        self._sign = -1.0 if mirror else 1.0
        self._roll = canvas.camera.roll
        self._depth = z
        self.code = code(kind, z)

    def become(self, kind: Kind, *, glows: bool = False) -> None:
        """Draw as another kind from here on."""
        self.code = code(kind, self._depth, glows=glows)

    def _at(self, u: float, v: float) -> tuple[int, int]:
        u = u * self._sign
        return self._x + int((u + self._roll * v) * self._scale), self._y + int((self._roll * u - v) * self._scale)

    def polygon(self, points: Sequence[tuple[float, float]], color: Color) -> None:
        """A filled polygon."""
        corners = np.array([self._at(u, v) for u, v in points], np.int32)
        cv2.fillPoly(self._pixels, [corners], (*color, self.code), cv2.LINE_8, _SHIFT)

    def box(self, u0: float, v0: float, u1: float, v1: float, color: Color) -> None:
        """A filled rectangle."""
        self.polygon(((u0, v0), (u1, v0), (u1, v1), (u0, v1)), color)

    def ellipse(self, u: float, v: float, across: float, up: float, color: Color, angle: float = 0.0) -> None:
        """A filled ellipse with half axes ``across`` and ``up``, turned by ``angle`` degrees."""
        axes = (int(across * self._scale), int(up * self._scale))
        turn = -angle * self._sign
        cv2.ellipse(self._pixels, self._at(u, v), axes, turn, 0, 360, (*color, self.code), -1, cv2.LINE_8, _SHIFT)

    def disc(self, u: float, v: float, radius: float, color: Color) -> None:
        """A filled circle."""
        cv2.circle(self._pixels, self._at(u, v), int(radius * self._scale), (*color, self.code), -1, cv2.LINE_8, _SHIFT)

    def line(self, points: Sequence[tuple[float, float]], width: float, color: Color) -> None:
        """A polyline ``width`` metres thick, at least one canvas pixel."""
        corners = np.array([self._at(u, v) for u, v in points], np.int32)
        thickness = max(round(width * self._scale / _ONE), 1)
        cv2.polylines(self._pixels, [corners], False, (*color, self.code), thickness, cv2.LINE_8, _SHIFT)
