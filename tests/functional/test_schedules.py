import math

import pytest

from evenseg.functional import schedules


def test_poly_decay():
    assert schedules.poly_decay(0, 100) == 1
    assert schedules.poly_decay(100, 100) == 0
    assert schedules.poly_decay(30, 100) == pytest.approx(0.7**0.9)
    assert schedules.poly_decay(30, 100, power=2) == pytest.approx(0.49)
    assert schedules.poly_decay(120, 100) == 0


def test_cosine_decay():
    assert schedules.cosine_decay(0, 80) == 1
    assert schedules.cosine_decay(40, 80) == pytest.approx(0.5)
    assert schedules.cosine_decay(80, 80) == pytest.approx(0)


def test_sigmoid_ramp():
    assert schedules.sigmoid_ramp(0, 40) == pytest.approx(math.exp(-5))
    assert schedules.sigmoid_ramp(10, 40) == pytest.approx(math.exp(-5 * 0.75**2))
    assert schedules.sigmoid_ramp(40, 40) == 1
    assert schedules.sigmoid_ramp(400, 40) == 1
    assert schedules.sigmoid_ramp(-3, 40) == pytest.approx(math.exp(-5))
    assert schedules.sigmoid_ramp(0, 0) == 1


def test_linear_warmup_learns_from_the_first_step():
    assert [schedules.linear_warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert schedules.linear_warmup(0, 0) == 1
