"""Takes the picture of a drawn scene: sky, textures, shadows, fog, lamps, weather, and the sensor's faults."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_light import Light
from evenseg.data.synthetic_world import (
    CODE_DEPTH,
    CODE_GLOWS,
    CODE_KIND,
    SUPERSAMPLING,
    Camera,
    Canvas,
    Kind,
    ground_code,
)

# How rough each kind looks: share of brightness that fine and coarse texture may add or take.
_FINE = np.zeros(256, np.float32)
_COARSE = np.zeros(256, np.float32)
for _kind, _fine, _coarse in (
    (Kind.ROAD, 0.10, 0.16), (Kind.BUILDING, 0.10, 0.12), (Kind.VEGETATION, 0.30, 0.20), (Kind.SIDEWALK, 0.13, 0.14),
    (Kind.CAR, 0.03, 0.05), (Kind.FENCE, 0.10, 0.10), (Kind.POLE, 0.05, 0.08), (Kind.PEDESTRIAN, 0.08, 0.08),
    (Kind.TRAFFIC_SIGN, 0.03, 0.04), (Kind.CYCLIST, 0.06, 0.08),
):  # fmt: skip
    _FINE[_kind == CODE_KIND] = _fine
    _COARSE[_kind == CODE_KIND] = _coarse
_IS_GROUND = np.isin(np.arange(256), [ground_code(kind) for kind in (Kind.ROAD, Kind.SIDEWALK, Kind.VEGETATION)])
_SNOW = np.select([CODE_KIND == Kind.SIDEWALK, _IS_GROUND, CODE_KIND == Kind.VEGETATION], [0.9, 0.6, 0.25], 0.0).astype(
    np.float32
)


def expose(
    canvas: Canvas, light: Light, lamps: list[tuple[float, float, float]], dice: Dice, noise: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 RGB and label (H, W) uint8 of a drawn scene."""
    height, width = canvas.height // SUPERSAMPLING, canvas.width // SUPERSAMPLING
    # the label is that of one canvas pixel in the middle of each image pixel: whatever is drawn has a hard edge
    codes = np.ascontiguousarray(
        canvas.pixels[SUPERSAMPLING // 2 :: SUPERSAMPLING, SUPERSAMPLING // 2 :: SUPERSAMPLING, 3]
    )
    label = CODE_KIND[codes]
    colors = cv2.resize(canvas.pixels, (width, height), interpolation=cv2.INTER_AREA)[..., :3]
    picture = colors.astype(np.float32) * (1 / 255)

    rows = (np.arange(height, dtype=np.float32) + 0.5) / height
    ground = _IS_GROUND[codes]
    depth = np.where(ground, canvas.camera.row_depth(rows)[:, None], CODE_DEPTH[codes])
    glows = CODE_GLOWS[codes]
    coarse, texture = _texture(canvas.camera, codes, ground, height, width, noise)
    picture *= texture[..., None]
    if light.weather.snow:
        white = _SNOW[codes] * np.clip(0.75 + 1.2 * coarse, 0, 1)
        picture += (np.float32(0.93) - picture) * white[..., None]
    _shine(picture, light, canvas, ground, glows, lamps)
    _fog(picture, light, depth, glows)
    sky = label == Kind.SKY
    picture[sky] = _sky(light, height, width, dice, noise)[sky]
    if light.weather.rain:
        _reflect(picture, label, canvas.camera)
    _glow(picture, canvas.camera, lamps)
    _fall(picture, light, dice)
    return _develop(picture, light, dice, noise), label


def _noise(noise: Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise in about [-1, 1], (H, W) float32, with ``cells`` bumps from top to bottom."""
    lattice = noise.random((cells + 1, max(round(cells * width / height), 1) + 1), np.float32) * 2 - 1
    return cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)


def _texture(
    camera: Camera, codes: np.ndarray, ground: np.ndarray, height: int, width: int, noise: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coarse noise and the brightness of every pixel; textures of the ground lie in perspective."""
    tile = noise.random((64, 64), np.float32) * 2 - 1
    fine, coarse = _noise(noise, height, width, 60), _noise(noise, height, width, 10)
    rows = (np.arange(height, dtype=np.float32) + 0.5) / height
    columns = ((np.arange(width, dtype=np.float32) + 0.5) - width / 2) / height
    z = camera.row_depth(rows)[:, None]
    x = (columns[None] - camera.center) * z / camera.focal
    far = np.broadcast_to(z, x.shape)
    first = int(max(camera.horizon - 0.05, 0.0) * height)
    for scale, target, share in ((3.0, fine, 0.8), (0.7, coarse, 1.0)):
        seen = cv2.remap(
            tile, (x * scale)[first:] % 64, (far * scale)[first:] % 64, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        target[first:] = np.where(ground[first:], share * seen, target[first:])
    return coarse, np.maximum(1.0 + _FINE[codes] * fine + _COARSE[codes] * coarse, 0.2)


def _shine(
    picture: np.ndarray,
    light: Light,
    canvas: Canvas,
    ground: np.ndarray,
    glows: np.ndarray,
    lamps: list[tuple[float, float, float]],
) -> None:
    """Daylight or lamplight on everything that does not glow by itself, less the shadows on the ground."""
    height, width = glows.shape
    shadow = cv2.resize(canvas.shadow, (width, height), interpolation=cv2.INTER_AREA)
    shadow = cv2.blur(shadow, (3, 3)).astype(np.float32) * (light.weather.shadow / 255)
    brightness = np.where(ground, 1 - shadow, 1)[..., None] * np.array(light.weather.light, np.float32)
    for x, _, z in lamps:  # a warm pool on the ground below each lamp
        column, row = canvas.camera.project(x, 0.0, z)
        size = 4.5 * canvas.camera.focal / z
        y = (np.arange(height, dtype=np.float32) / height - row) / (0.45 * size)
        u = ((np.arange(width, dtype=np.float32) - width / 2) / height - column) / size
        pool = np.exp(-(y * y))[:, None] * np.exp(-(u * u))[None]
        brightness += pool[..., None] * np.array([0.75, 0.56, 0.3], np.float32)
    picture *= np.where(glows[..., None], 1, brightness)


def _fog(picture: np.ndarray, light: Light, depth: np.ndarray, glows: np.ndarray) -> None:
    veil = (1 - np.exp(-light.fog * depth))[..., None] * np.where(glows, 0.4, 1.0)[..., None].astype(np.float32)
    picture += (np.array(light.weather.haze, np.float32) - picture) * veil


def _sky(light: Light, height: int, width: int, dice: Dice, noise: Generator) -> np.ndarray:
    weather = light.weather
    fall = np.clip(np.arange(height, dtype=np.float32) / (0.5 * height), 0, 1)[:, None, None] ** 1.3
    sky = np.array(weather.zenith, np.float32) * (1 - fall) + np.array(weather.haze, np.float32) * fall
    sky = np.repeat(sky, width, axis=1)
    puffs = _noise(noise, height, width, 6) + 0.5 * _noise(noise, height, width, 14) - dice.between(-0.1, 0.7)
    cover = np.clip(puffs * 1.6, 0, 1)[..., None] * (weather.clouds * (0.35 + 0.65 * fall))
    bright = np.array((0.2, 0.2, 0.28) if weather.name == "night" else (0.98, 0.96, 0.95), np.float32)
    tint = np.array(weather.haze, np.float32) * 0.6 + bright * 0.4
    sky += (tint - sky) * cover
    return sky


def _reflect(picture: np.ndarray, label: np.ndarray, camera: Camera) -> None:
    """Wet asphalt mirrors what stands above the horizon."""
    height = len(picture)
    rows = np.arange(height)
    mirrored = np.clip(np.rint(2 * camera.horizon * height - rows).astype(int), 0, height - 1)
    mirror = cv2.blur(picture, (1, 7))[mirrored]
    wet = np.where(label == Kind.ROAD, np.float32(0.38), np.float32(0.0))[..., None]
    picture += (mirror - picture) * wet


def _glow(picture: np.ndarray, camera: Camera, lamps: list[tuple[float, float, float]]) -> None:
    height, width = picture.shape[:2]
    for x, y, z in lamps:
        column, row = camera.project(x, y, z)
        size = max(1.1 * camera.focal / z, 0.02)
        down = (np.arange(height, dtype=np.float32) / height - row) / size
        across = ((np.arange(width, dtype=np.float32) - width / 2) / height - column) / size
        halo = 1 / (1 + down[:, None] ** 2 + across[None] ** 2) ** 2
        picture += halo[..., None] * np.array([0.55, 0.42, 0.22], np.float32)


def _fall(picture: np.ndarray, light: Light, dice: Dice) -> None:
    """Rain streaks or snow flakes before the lens."""
    if not (light.weather.rain or light.weather.snow):
        return
    height, width = picture.shape[:2]
    veil = np.zeros((height, width), np.uint8)
    slant = dice.between(-0.02, 0.02)
    for _ in range(70):
        x, y = dice.between(-1.5, 1.5), dice.random()
        column, row = round((x + width / height / 2) * height * 16), round(y * height * 16)
        if light.weather.rain:
            end = (column + round(slant * height * 16), row + round(dice.between(0.03, 0.08) * height * 16))
            cv2.line(veil, (column, row), end, 70, max(round(height / 200), 1), cv2.LINE_AA, 4)
        else:
            cv2.circle(veil, (column, row), round(dice.between(0.002, 0.008) * height * 16), 200, -1, cv2.LINE_AA, 4)
    picture += (np.float32(0.93) - picture) * (veil.astype(np.float32) / 255)[..., None]


def _develop(picture: np.ndarray, light: Light, dice: Dice, noise: Generator) -> np.ndarray:
    """Saturation, exposure, vignette, blur, noise: (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    grey = 0.3 * picture[..., :1] + 0.59 * picture[..., 1:2] + 0.11 * picture[..., 2:]
    picture = grey + (picture - grey) * np.float32(light.weather.saturation * dice.between(0.8, 1.15))
    picture *= np.array(light.gain, np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    picture *= 1 - np.float32(dice.between(0.0, 0.16)) * (x * x + y * y)
    picture = np.clip(picture, 0, 1) ** np.float32(light.gamma)
    if dice.chance(0.15):  # out of focus
        sigma = dice.between(0.3, 0.7) * height / 96
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    grain = noise.standard_normal((height, width, 3), np.float32)
    picture += grain * np.float32(light.weather.noise * dice.between(0.6, 1.4))
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
