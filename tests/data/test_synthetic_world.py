"""The canvas of the synthetic scenes: one projection, one code per pixel, nothing lost by leaving out the unseen."""

from __future__ import annotations

import numpy as np
import pytest

from evenseg.data.synthetic import render
from evenseg.data.synthetic_world import (
    CODE_DEPTH,
    CODE_GLOWS,
    CODE_KIND,
    SUPERSAMPLING,
    Camera,
    Canvas,
    Kind,
    code,
    ground_code,
)

CAMERA = Camera(focal=1.1, horizon=0.45, center=0.1, height=1.6, offset=0.7, roll=0.03, curve=0.002)
RED = (200, 10, 20)


@pytest.mark.parametrize("kind", list(Kind))
def test_codes_tell_kind_depth_and_glow(kind: Kind) -> None:
    for depth in (1.0, 5.0, 20.0, 60.0, 200.0):
        for glows in (False, True):
            value = code(kind, depth, glows=glows)
            assert 0 <= value < 256
            assert (CODE_KIND[value], CODE_GLOWS[value]) == (kind, glows)
            assert CODE_DEPTH[value] > 0
    nearest_level = CODE_DEPTH[code(kind, 20.0)]
    assert 20 / 1.45**0.5 <= nearest_level <= 20 * 1.45**0.5
    assert CODE_KIND[ground_code(kind)] == kind
    assert CODE_DEPTH[ground_code(kind)] == 0


def test_outline_is_the_projection() -> None:
    canvas = Canvas(CAMERA, 96, 128)
    points = [(0.0, 0.0, 5.0), (-3.0, 2.0, 9.0), (4.0, 6.0, 40.0), (1.0, 0.5, 0.2)]
    for point, fixed in zip(points, canvas.outline(points), strict=True):
        column, row = CAMERA.project(*point)
        expected = (128 / 2 + column * 96) * SUPERSAMPLING, row * 96 * SUPERSAMPLING
        np.testing.assert_allclose(fixed / 16, expected, atol=0.1)


def test_many_faces_are_drawn_like_single_ones() -> None:
    quads = np.array([[(x, 0, 6), (x + 0.7, 0, 6), (x + 0.7, 2, 9), (x, 2, 9)] for x in (-3.0, -1.0, 1.5)], float)
    together, singly = Canvas(CAMERA, 96, 128), Canvas(CAMERA, 96, 128)
    together.faces(quads, RED, 44)
    for quad in quads:
        singly.face([tuple(corner) for corner in quad], RED, 44)
    assert (together.pixels[..., 3] == 44).sum() > 500
    np.testing.assert_array_equal(together.pixels, singly.pixels)


def test_row_depth_inverts_the_projection_of_the_ground() -> None:
    level = CAMERA._replace(roll=0.0)
    for depth in (3.0, 10.0, 50.0):
        _, row = level.project(2.0, 0.0, depth)
        assert level.row_depth(np.array([row]))[0] == pytest.approx(depth)
    assert level.row_depth(np.array([0.1]))[0] == pytest.approx(200.0)  # above the horizon: the end of the world


def test_a_claim_changes_the_code_and_not_the_colour() -> None:
    canvas = Canvas(CAMERA, 96, 128)
    canvas.pixels[:] = (1, 2, 3, 4)
    face = [(-2.0, 0.0, 6.0), (-2.0, 2.0, 6.0), (-2.0, 2.0, 60.0), (-2.0, 0.0, 60.0)]
    canvas.claim(face, 99)
    painted = Canvas(CAMERA, 96, 128)
    painted.face(face, RED, 99)
    np.testing.assert_array_equal(canvas.pixels[..., 3] == 99, painted.pixels[..., 3] == 99)
    assert (canvas.pixels[..., :3] == (1, 2, 3)).all()
    canvas.claim([(x + 500.0, y, z) for x, y, z in face], 98)  # out of sight
    assert not (canvas.pixels[..., 3] == 98).any()


def test_what_is_left_out_would_not_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [render(5, number, 48, 64) for number in range(12)]
    left_out = []
    sees = Canvas.sees

    def sees_all(canvas: Canvas, x: float, z: float, half: float, height: float) -> bool:
        left_out.append(not sees(canvas, x, z, half, height))
        return True

    monkeypatch.setattr(Canvas, "sees", sees_all)
    for number, (image, label) in enumerate(scenes):
        all_image, all_label = render(5, number, 48, 64)
        np.testing.assert_array_equal(label, all_label)
        np.testing.assert_array_equal(image, all_image)
    assert sum(left_out) > 50


def test_boards_mirror() -> None:
    one, other = Canvas(CAMERA._replace(roll=0.0), 96, 128), Canvas(CAMERA._replace(roll=0.0), 96, 128)
    one.board(0.7, 8.0, Kind.CAR).box(0.2, 0.0, 1.0, 1.0, RED)
    other.board(0.7, 8.0, Kind.CAR, mirror=True).box(0.2, 0.0, 1.0, 1.0, RED)
    (right,), (left,) = (np.diff(np.flatnonzero((c.pixels[..., 3] > 0).any(0))[[0, -1]]) for c in (one, other))
    assert right == pytest.approx(left, abs=1)
    middle = one.outline([(0.7, 0.0, 8.0)])[0, 0] / 16
    assert np.flatnonzero((one.pixels[..., 3] > 0).any(0)).min() > middle
    assert np.flatnonzero((other.pixels[..., 3] > 0).any(0)).max() < middle
