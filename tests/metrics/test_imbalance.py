import numpy as np
import pytest

from evenseg.metrics.imbalance import coefficient_of_variation, imbalance, tail_classes


def test_listed_classes_win_and_keep_class_order() -> None:
    tail = tail_classes(("a", "b", "c"), np.array([1, 1, 1]), ("c", "a"))
    assert tail.names == ("a", "c")
    assert tail.rule == "listed by the data set"
    assert tail_classes(("a", "b"), np.array([1000, 1]), ()).names == ()


def test_unknown_listed_class_is_refused() -> None:
    with pytest.raises(ValueError, match="'d'"):
        tail_classes(("a", "b"), np.array([1, 1]), ("d",))


def test_rule_is_strictly_less_than_a_fifth_of_the_uniform_share() -> None:
    # Four classes: the limit is 1/20 of 2000 pixels, that is 100.
    names = ("at the limit", "below", "never labeled", "frequent")
    tail = tail_classes(names, np.array([100, 99, 0, 1801]))
    assert tail.names == ("below", "never labeled")
    assert tail.rule == "less than 1/5 of the uniform share (1/4) of the labeled pixels"


def test_rule_is_exact_for_large_counts() -> None:
    # One pixel decides, far beyond what float64 resolves.
    limit = 2**55
    frequency = np.array([limit - 1, 10 * limit - limit + 1])
    assert tail_classes(("rare", "frequent"), frequency).names == ("rare",)
    assert tail_classes(("rare", "frequent"), frequency + np.array([1, -1])).names == ()


def test_imbalance() -> None:
    facts = imbalance(("a", "b", "c"), np.array([300, 0, 3]))
    assert facts.ratio == 100.0
    assert facts.missing == ("b",)
    assert facts.share.tolist() == pytest.approx([300 / 303, 0.0, 3 / 303])


def test_imbalance_without_pixels() -> None:
    facts = imbalance(("a", "b"), np.zeros(2, dtype=np.int64))
    assert facts.ratio == 1.0
    assert facts.share.tolist() == [0.0, 0.0]
    assert facts.missing == ("a", "b")


def test_coefficient_of_variation():
    sizes = np.random.default_rng(0).integers(0, 50, 13)
    assert coefficient_of_variation(sizes) == pytest.approx(sizes.std() / sizes.mean())
    assert coefficient_of_variation([4, 4]) == 0
    assert np.isnan(coefficient_of_variation([0, 0]))
