from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from evenseg.data.splits import draw, fingerprint, is_amount, labeled_count, missing_class_warnings, withhold
from evenseg.errors import InputError


def scenes(count: int, num_classes: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Names, and counts of a long-tailed set: class c occurs in about one of 2**c images."""
    generator = np.random.default_rng(seed)
    present = generator.random((count, num_classes)) < 0.5 ** np.arange(num_classes)
    return [f"images/{i:04d}.png" for i in range(count)], present * generator.integers(50, 100, (count, num_classes))


@pytest.mark.parametrize("value", ["1/16", " 1 / 8 ", "24", "0.0625", ".5", "1.", "1e-2", 24, 0.0625])
def test_amounts(value: str | int | float) -> None:
    assert is_amount(value)


@pytest.mark.parametrize("value", ["labeled.txt", "splits/1/16", "images", "1_8/labeled.txt", "-3"])
def test_paths(value: str) -> None:
    assert not is_amount(value)


@pytest.mark.parametrize(
    ("amount", "total", "expected"),
    [
        ("1/16", 2975, 186),
        ("1/8", 367, 46),
        ("1/16", 24, 2),
        (0.0625, 24, 2),
        ("0.1", 25, 3),
        (0.1, 25, 3),
        (1.0, 7, 7),
        (7, 7, 7),
        (1, 7, 1),
        ("24", 24, 24),
    ],
)
def test_count(amount: str | int | float, total: int, expected: int) -> None:
    assert labeled_count(amount, total) == expected


@pytest.mark.parametrize("amount", [0, 25, "25", "0", -1, 1.5, 0.0, "3/2", "1/0", "1/100", float("nan"), float("inf")])
def test_count_out_of_range(amount: str | int | float) -> None:
    with pytest.raises(InputError, match=rf"^data\.labeled: .*{amount}"):
        labeled_count(amount, 24)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fold", range(3))
def test_every_class_is_drawn_where_possible(seed: int, fold: int) -> None:
    names, counts = scenes(200, 7, seed)
    possible = (counts > 0).any(axis=0)
    drawn = draw(names, counts, 12, fold=fold)
    assert len(set(drawn)) == 12
    assert drawn == sorted(drawn)
    assert ((counts[drawn] > 0).any(axis=0) == possible).all()


def test_as_many_classes_as_fit() -> None:
    """Four images, one of which shows three of the four classes: with two, all four classes are covered."""
    counts = np.array([[9, 0, 0, 0], [0, 9, 0, 0], [9, 9, 9, 0], [0, 0, 0, 9]])
    for fold in range(20):
        assert draw(list("abcd"), counts, 2, fold=fold) == [2, 3]
        assert draw(list("abcd"), counts, 1, fold=fold) == [2]


def test_stray_pixels_do_not_cover_a_class() -> None:
    counts = np.array([[100, 0], [100, 1], [100, 60], [100, 1], [100, 0]])
    assert all(2 in draw(list("abcde"), counts, 2, fold=fold) for fold in range(20))


def test_draw_does_not_depend_on_the_order_of_the_list() -> None:
    names, counts = scenes(100, 6, 0)
    expected = [names[index] for index in draw(names, counts, 10, fold=1)]
    order = np.random.default_rng(0).permutation(100)
    shuffled = [names[index] for index in order]
    assert [shuffled[index] for index in draw(shuffled, counts[order], 10, fold=1)] == expected


def test_draws_of_a_fold_are_nested() -> None:
    names, counts = scenes(300, 6, 1)
    for fold in range(3):
        draws = [set(draw(names, counts, amount, fold=fold)) for amount in (8, 20, 75, 150, 300)]
        assert all(few < many for few, many in itertools.pairwise(draws))


def test_folds_differ_and_every_image_is_about_as_likely() -> None:
    names, _ = scenes(20, 1, 0)
    counts = np.ones((20, 1), int)
    drawn = np.zeros(20)
    for fold in range(2000):
        drawn[draw(names, counts, 5, fold=fold)] += 1
    assert np.abs(drawn / 2000 - 0.25).max() < 0.05  # five standard deviations


def test_draw_is_the_same_everywhere() -> None:
    """Written down: published splits must not move with a version of anything."""
    names, _ = scenes(50, 1, 0)
    everywhere = np.ones((50, 1), int)
    assert draw(names, everywhere, 6, fold=0) == [10, 15, 21, 26, 33, 37]
    assert draw(names, everywhere, 6, fold=1) == [8, 23, 25, 29, 32, 39]


def test_fingerprint() -> None:
    assert fingerprint(["b", "a"]) == hashlib.sha256(b"a\nb\n").hexdigest() == fingerprint(["a", "b"])
    assert fingerprint(["a", "b"]) != fingerprint(["ab"])


def test_missing_classes_are_named() -> None:
    counts = np.array([[1, 0, 0], [0, 2, 0]])
    assert missing_class_warnings(["a", "b"], counts[:, :2]) == []
    (warning,) = missing_class_warnings(["a", "b", "c"], counts)
    assert "class c;" in warning
    (warning,) = missing_class_warnings(["a", "b", "c"], counts[:1])
    assert "classes b, c;" in warning


@pytest.mark.parametrize("fold", range(3))
def test_withheld_images_leave_every_class_with_one(fold: int) -> None:
    names, counts = scenes(40, 5, 1)
    chosen = withhold(names, counts, 8, fold=fold)
    assert len(set(chosen)) == 8
    left = sorted(set(range(40)) - set(chosen))
    assert ((counts[left] > 0).any(axis=0) == (counts > 0).any(axis=0)).all()
    order = np.random.default_rng(0).permutation(40)
    again = withhold([names[i] for i in order], counts[order], 8, fold=fold)
    assert [names[i] for i in chosen] == [names[order[i]] for i in again]


def test_withheld_images_depend_on_the_fold() -> None:
    names, counts = scenes(40, 5, 1)
    assert len({tuple(withhold(names, counts, 8, fold=fold)) for fold in range(5)}) > 1


def test_withholding_takes_the_only_image_of_a_class_where_there_is_no_other() -> None:
    counts = np.diag([5, 5, 5])
    assert len(withhold(["a", "b", "c"], counts, 2, fold=0)) == 2


def test_withholding_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"^health\.holdout: withholding 3 of 3 .* choose at most 2"):
        withhold(["a", "b", "c"], np.ones((3, 2), np.int64), 3, fold=0)
