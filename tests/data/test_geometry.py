from __future__ import annotations

import cv2
import numpy as np
import pytest

from evenseg.data.geometry import WeakSpec, Window, draw_window, ignore_value, look_through, weak_view


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def numbers(height: int, width: int) -> np.ndarray:
    """A map in which every pixel has a value of its own."""
    return np.arange(height * width, dtype=np.int32).reshape(height, width)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_at_scale_one_the_view_is_a_piece_of_the_image() -> None:
    image, where = picture(30, 40), numbers(30, 40)
    for seed in range(20):
        view = weak_view(image, {"where": where}, rng(seed), WeakSpec((8, 11), flip=0.5))
        found = view.maps["where"]
        np.testing.assert_array_equal(view.image, image.reshape(-1, 3)[found])
        np.testing.assert_array_equal(np.abs(np.diff(found, axis=1)), 1)
        np.testing.assert_array_equal(np.diff(found, axis=0), 40)
        assert view.valid.all()


def test_crops_are_uniform_over_all_places() -> None:
    where = numbers(6, 5)
    corners = [weak_view(picture(6, 5), {"w": where}, rng(s), WeakSpec((4, 3))).maps["w"][0, 0] for s in range(1800)]
    counts = np.bincount(corners, minlength=30).reshape(6, 5)
    assert counts[:3, :3].min() > 140  # 200 expected in each of 9 places, standard deviation 13
    assert counts.sum() == counts[:3, :3].sum()


@pytest.mark.parametrize("scale", [0.55, 0.7, 0.9, 1.3, 1.7, 2.0])
def test_image_and_label_stay_aligned(scale: float) -> None:
    ramp = np.broadcast_to(np.arange(60, dtype=np.uint8) * 4, (60, 60))
    for label, axis in ((np.ascontiguousarray(ramp), 1), (np.ascontiguousarray(ramp.T), 0)):
        image = np.repeat(label[..., None], 3, axis=2)
        view = weak_view(image, {"label": label}, rng(), WeakSpec((24, 24), (scale,)))
        inner = np.s_[2:-2, 2:-2]  # borders are replicated there
        difference = view.image[inner][..., 0].astype(int) - view.maps["label"][inner]
        assert (
            abs(difference.mean()) < 1
        )  # a quarter of a pixel; plain nearest sampling is off by up to 3.6 of these levels
        assert abs(difference).max() <= 4
        assert view.image.mean(axis=(1 - axis, 2)).std() > 1  # it is a ramp still


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.6])
def test_crop_first_shows_what_scaling_the_whole_image_shows(scale: float) -> None:
    image = cv2.GaussianBlur(picture(100, 120), (0, 0), 3)
    window = Window(10, 20, round(30 / scale), round(30 / scale))
    view = look_through(image, {}, window, (30, 30)).image
    whole = cv2.resize(image, None, fx=30 / window.width, fy=30 / window.height, interpolation=cv2.INTER_AREA)
    top, left = round(10 * 30 / window.height), round(20 * 30 / window.width)
    expected = whole[top : top + 30, left : left + 30].astype(int)
    assert np.abs(view[2:-2, 2:-2].astype(int) - expected[2:-2, 2:-2]).mean() < 3


def test_shrinking_averages_fine_texture() -> None:
    checkerboard = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = np.repeat(checkerboard[..., None], 3, axis=2).astype(np.uint8)
    view = weak_view(image, {}, rng(), WeakSpec((20, 20), (0.4,))).image
    assert view[2:-2, 2:-2].std() < 20  # sampled without a filter it would stay black and white, 127


def test_small_images_are_padded() -> None:
    image, label = picture(5, 7), np.zeros((5, 7), np.uint8)
    mean = np.rint(image.mean(axis=(0, 1)))
    places = set()
    for seed in range(200):
        view = weak_view(image, {"label": label, "where": numbers(5, 7)}, rng(seed), WeakSpec((9, 10)))
        rows, columns = np.nonzero(view.valid)
        places.add((rows.min(), columns.min()))
        inside = np.s_[rows.min() : rows.min() + 5, columns.min() : columns.min() + 7]
        assert view.valid.sum() == 35
        np.testing.assert_array_equal(view.image[inside], image)
        np.testing.assert_array_equal(view.maps["where"][inside], numbers(5, 7))
        assert (np.abs(view.image[~view.valid] - mean) <= 1).all()
        np.testing.assert_array_equal(view.maps["label"], np.where(view.valid, 0, 255))
        assert (view.maps["where"][~view.valid] == -1).all()
    assert places == {(row, column) for row in range(5) for column in range(4)}


def test_padding_in_one_direction_only() -> None:
    view = weak_view(picture(5, 50), {"w": numbers(5, 50)}, rng(), WeakSpec((10, 10), (0.5,)))
    assert view.valid.any(axis=1).sum() in (2, 3)
    assert view.valid.any(axis=0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_degenerate_sizes(size: tuple[int, int], scale: float) -> None:
    for angle in (0.0, 30.0):
        spec = WeakSpec((6, 8), (scale,), 0.5, angle, 1.0)
        view = weak_view(picture(*size), {"w": numbers(*size)}, rng(), spec)
        assert view.image.shape == (6, 8, 3)
        assert view.valid.any() or angle
        np.testing.assert_array_equal(view.maps["w"] >= 0, view.valid)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16, np.int32])
def test_maps_keep_dtype_and_values(dtype: type) -> None:
    values = rng().integers(0, 5, (20, 20)).astype(dtype) * 20
    for angle in (0.0, 40.0):
        spec = WeakSpec((30, 30), (0.5, 1.4, 2.1), 0.5, angle, 1.0)
        view = weak_view(picture(20, 20), {"map": values}, rng(1), spec).maps["map"]
        assert view.dtype == dtype
        assert set(np.unique(view)) <= {0, 20, 40, 60, 80, ignore_value(np.dtype(dtype))}


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        weak_view(picture(9, 9), {"map": np.zeros((9, 9), np.int64)}, rng(), WeakSpec((4, 4)))


@pytest.mark.parametrize("angle", [0.0, 17.0])
def test_flip_mirrors_everything(angle: float) -> None:
    image, maps = picture(20, 20), {"a": numbers(20, 20), "b": picture(20, 20)[..., 0]}
    upright = look_through(image, maps, Window(3, -4, 12, 14, angle), (9, 13))
    mirrored = look_through(image, maps, Window(3, -4, 12, 14, angle, flip=True), (9, 13))
    np.testing.assert_array_equal(mirrored.image, upright.image[:, ::-1])
    np.testing.assert_array_equal(mirrored.valid, upright.valid[:, ::-1])
    for name in maps:
        np.testing.assert_array_equal(mirrored.maps[name], upright.maps[name][:, ::-1])


def test_quarter_turn_is_exact() -> None:
    image, where = picture(30, 30), numbers(30, 30)
    view = look_through(image, {"w": where}, Window(5, 7, 16, 16, angle=90.0), (16, 16))
    np.testing.assert_array_equal(view.maps["w"], np.rot90(where[5:21, 7:23]))
    np.testing.assert_array_equal(view.image, np.rot90(image[5:21, 7:23]))
    assert view.valid.all()


@pytest.mark.parametrize("angle", [-35.0, 8.0, 60.0])
def test_rotation_by_brute_force(angle: float) -> None:
    where = numbers(40, 44)
    top, left, height, width = 12, 20, 20, 24
    view = look_through(picture(40, 44), {"w": where}, Window(top, left, height, width, angle), (height, width))
    turn = np.deg2rad(angle)
    for row in range(height):
        for column in range(width):
            down, right = row - (height - 1) / 2, column - (width - 1) / 2
            # anticlockwise, with rows counting downwards
            source_row = top + (height - 1) / 2 + down * np.cos(turn) + right * np.sin(turn)
            source_column = left + (width - 1) / 2 + right * np.cos(turn) - down * np.sin(turn)
            found = view.maps["w"][row, column]
            if found < 0:
                assert not (0.1 < source_row < 38.9 and 0.1 < source_column < 42.9)
                assert not view.valid[row, column]
            else:
                assert abs(found // 44 - source_row) < 0.6
                assert abs(found % 44 - source_column) < 0.6
                assert view.valid[row, column]
    assert 0 < view.valid.mean() < 1


def test_rotation_keeps_image_and_label_aligned() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3, (64, 64)).copy()
    image = np.repeat(ramp[..., None], 3, axis=2)
    for seed in range(10):
        view = weak_view(image, {"l": ramp}, rng(seed), WeakSpec((30, 30), (0.8, 1.5), 0.5, 45.0, 1.0))
        inner = cv2.erode(view.valid.astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=0) > 0
        difference = view.image[..., 0].astype(int)[inner] - view.maps["l"][inner]
        assert abs(difference.mean()) < 0.6
        assert abs(difference).max() <= 6


def test_draws_follow_the_specification() -> None:
    spec = WeakSpec((10, 20), (0.5, 2.0), 0.3, 25.0, 0.4)
    windows = [draw_window((100, 100), spec, rng(seed)) for seed in range(1500)]
    scales = [10 / window.height for window in windows]
    assert 0.5 <= min(scales) < 0.55
    assert 1.9 < max(scales) <= 2.0
    assert abs(np.mean([20 / window.width for window in windows]) - 1.25) < 0.05
    assert abs(np.mean([window.flip for window in windows]) - 0.3) < 0.05
    assert abs(np.mean([window.angle != 0 for window in windows]) - 0.4) < 0.05
    assert all(abs(window.angle) <= 25 for window in windows)
    assert min(window.angle for window in windows) < -20 < 20 < max(window.angle for window in windows)


def test_scales_are_chosen_from_a_list() -> None:
    spec = WeakSpec((12, 12), (0.5, 0.75, 1.0, 1.5))
    heights = [draw_window((50, 50), spec, rng(seed)).height for seed in range(400)]
    assert {height: heights.count(height) > 60 for height in set(heights)} == dict.fromkeys((24, 16, 12, 8), True)


def test_sources_may_be_read_only_and_stay_as_they_are() -> None:
    image, label = picture(20, 20), numbers(20, 20)
    before = image.copy(), label.copy()
    image.flags.writeable = label.flags.writeable = False
    for scale in (0.6, 1.0, 1.5):
        for flip in (0.0, 1.0):
            weak_view(image, {"l": label}, rng(), WeakSpec((16, 16), (scale,), flip, 10.0, 0.5))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


def test_a_blurred_view_shows_the_same_and_leaves_the_maps_alone() -> None:
    image, where = picture(30, 40), numbers(30, 40)
    spec = WeakSpec((12, 15), (0.5, 2.0), 0.5, 20.0, 0.5)
    blurred = 0
    for seed in range(200):
        plain = weak_view(image, {"w": where}, rng(seed), spec)
        view = weak_view(image, {"w": where}, rng(seed), spec._replace(blur=0.5))
        np.testing.assert_array_equal(view.maps["w"], plain.maps["w"])
        np.testing.assert_array_equal(view.valid, plain.valid)
        if np.array_equal(view.image, plain.image):
            continue
        blurred += 1
        kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
        padded = np.pad(plain.image.astype(float), ((2, 2), (2, 2), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1))
        assert abs((windows * kernel).sum(axis=(3, 4)) - view.image).max() <= 0.5 + 1e-9
    assert 70 < blurred < 130


def test_the_image_itself_is_never_blurred() -> None:
    image = picture(20, 20)
    before = image.copy()
    for seed in range(5):
        weak_view(image, {}, rng(seed), WeakSpec((20, 20), blur=1.0))
    np.testing.assert_array_equal(image, before)
