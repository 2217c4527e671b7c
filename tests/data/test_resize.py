from __future__ import annotations

import numpy as np
import pytest

from evenseg.data.resize import resize_image, resize_label, resized_shape


@pytest.mark.parametrize(
    ("shape", "resize", "expected"),
    [
        ((360, 480), None, (360, 480)),
        ((360, 480), (180, 200), (180, 200)),
        ((360, 480), 180, (180, 240)),
        ((480, 360), 180, (240, 180)),
        ((100, 101), 50, (50, 51)),  # 50.5, half up
        ((7, 7), 9, (9, 9)),
    ],
)
def test_shape(shape: tuple[int, int], resize: object, expected: tuple[int, int]) -> None:
    assert resized_shape(*shape, resize) == expected  # type: ignore[arg-type]


def test_image_shrinks_by_area_means() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    means = image.reshape(6, 2, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, (6, 8)) - means).max() <= 0.5
    assert resize_image(image, (24, 32)).shape == (24, 32, 3)
    assert resize_image(image, None) is image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(6, 5), (30, 40), (120, 160), (12, 16), (7, 33), (401, 233)])
def test_label_takes_the_nearest_pixel_centre(dtype: type, shape: tuple[int, int]) -> None:
    rows, columns = np.meshgrid(np.arange(120), np.arange(160), indexing="ij")
    for source, axis in ((rows, 0), (columns, 1)):
        resized = resize_label(source.astype(dtype), shape)
        assert resized.dtype == dtype
        position = (np.arange(shape[axis]) + 0.5) * source.shape[axis] / shape[axis]
        distance = np.abs(resized + 0.5 - np.expand_dims(position, 1 - axis))
        assert distance.max() <= 0.5 + 1e-3
