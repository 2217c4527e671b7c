"""The comparison that every export has to pass."""

import numpy as np
import pytest

from evenseg.errors import InputError
from evenseg.export.check import Agreement, batches, check


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def bright(image: np.ndarray) -> np.ndarray:
    """Two classes by the red channel."""
    red = image[:, 0].astype(np.float32) - 127.5
    return np.stack([-red, red], axis=1)


@pytest.mark.parametrize("size", [(96, 128), (100, 75), (1100, 600), (20, 40)])
def test_batches_cover_whole_images_and_sizes_with_and_without_padding(size: tuple[int, int]) -> None:
    given = images(size, size, size)
    first, second, even, odd = batches(given, multiple=32, smallest=33)
    if min(size) >= 33:
        assert np.array_equal(first[0].transpose(1, 2, 0), given[0])
        assert np.array_equal(second[0].transpose(1, 2, 0), given[1])
    assert (len(even), len(odd)) == (2, 3)
    assert all(side % 32 == 0 for side in even.shape[2:])
    assert all(side % 32 != 0 for side in odd.shape[2:])
    for batch in (first, second, even, odd):
        assert batch.dtype == np.uint8
        assert batch.shape[1] == 3
        assert min(batch.shape[2:]) >= 33
    assert not np.array_equal(even[0], even[1])
    assert max(*even.shape[2:], *odd.shape[2:]) <= 512 + 32


def test_equal_models_agree_wholly() -> None:
    agreement = check(bright, bright, images((64, 64)), multiple=16, smallest=16)
    assert agreement == Agreement(64 * 64 + 2 * 64 * 64 + 3 * 72 * 65, 1.0, ((1, 64, 64), (2, 64, 64), (3, 72, 65)))


@pytest.mark.parametrize(("wrong", "passes"), [(4, True), (5, False)])
def test_one_pixel_in_a_thousand_may_differ(wrong: int, passes: bool) -> None:
    def nearly(image: np.ndarray) -> np.ndarray:
        logits = bright(image)
        if len(image) == 1:
            logits[0, :, 0, :wrong] *= -1
        return logits

    def run() -> Agreement:
        return check(nearly, bright, images((64, 64)), multiple=16, smallest=16)

    if passes:
        assert run().lowest == 1 - 4 / 4096
    else:
        with pytest.raises(InputError, match=r"99\.878 % of the pixels .* \(batch of 1, 64x64\), less than 99\.9 %"):
            run()


def test_a_fault_at_one_size_is_not_diluted_by_the_others() -> None:
    def unpadded(image: np.ndarray) -> np.ndarray:
        return bright(image if image.shape[2] % 16 == 0 else np.roll(image, 1, axis=3))

    with pytest.raises(InputError, match=r"batch of 3, 72x65"):
        check(unpadded, bright, images((64, 64)), multiple=16, smallest=16)
