"""Codes made in bands against the softmax of everything at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evenseg.errors import InputError
from evenseg.functional.calibration import Temperature
from evenseg.functional.confidence_codes import CODES, confidence_codes
from evenseg.stages.pseudo_label import encode as module
from evenseg.stages.pseudo_label.encode import encode


@pytest.mark.parametrize("size", [(13, 21), (26, 42), (40, 50), (13, 64), (1, 1)])
@pytest.mark.parametrize("at_once", [1, 500, 1 << 20])
def test_bands_give_what_the_whole_gives(size: tuple[int, int], at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALUES_AT_ONCE", at_once)
    logits = 4 * torch.randn(5, 13, 21, generator=torch.Generator().manual_seed(0))
    label, code = encode(logits, size, "a")
    whole = F.interpolate(logits[None].double(), size=size, mode="bilinear", align_corners=False)[0].softmax(0)
    value, index = whole.max(0)
    assert label.dtype == np.uint8
    assert code.dtype == np.uint16
    near = whole.topk(2, dim=0).values
    clear = (near[0] - near[1] > 1e-5).numpy()
    assert np.array_equal(label[clear], index.numpy()[clear])
    exact = confidence_codes(value.float()).numpy().astype(np.int64)
    assert np.abs(code.astype(np.int64) - exact).max() <= 1  # rounded from numbers that differ in the last digits
    assert (code != exact).mean() < 0.02


def test_at_the_size_of_the_network_codes_are_exact() -> None:
    logits = 6 * torch.randn(7, 30, 40, generator=torch.Generator().manual_seed(1))
    label, code = encode(logits, (30, 40), "a")
    value, index = logits.softmax(0).max(0)
    assert np.array_equal(label, index.numpy())
    assert (code != confidence_codes(value).numpy().view(np.uint16)).mean() < 0.01


def test_of_equal_logits_the_first_class() -> None:
    label, code = encode(torch.zeros(4, 2, 3), (2, 3), "a")
    assert label.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.array_equal(code.view(np.float16), np.full((2, 3), 0.25))


def test_a_temperature_changes_confidence_alone() -> None:
    logits = 3 * torch.randn(4, 20, 20, generator=torch.Generator().manual_seed(2))
    plain, warm = encode(logits, (20, 20), "a"), encode(logits, (20, 20), "a", Temperature(2.0))
    assert np.array_equal(plain[0], warm[0])
    assert (warm[1] < plain[1]).all()
    expected = confidence_codes((logits / 2).softmax(0).amax(0)).numpy().view(np.uint16)
    assert (warm[1] != expected).mean() < 0.01


def test_the_warmer_the_fewer_are_certain() -> None:
    logits = 12 * torch.randn(4, 20, 20, generator=torch.Generator().manual_seed(2))
    found = [encode(logits, (20, 20), "a", Temperature(value)) for value in (0.5, 1.0, 1.5, 3.0, 10.0)]
    certain = [int((code == CODES - 1).sum()) for _, code in found]
    assert certain == sorted(certain, reverse=True)
    assert certain[0] > certain[-1]
    plain = encode(logits, (20, 20), "a")
    assert all(np.array_equal(label, plain[0]) for label, _ in found)
    assert np.array_equal(found[1][1], plain[1])


def test_more_than_255_classes_take_16_bits() -> None:
    logits = torch.zeros(300, 2, 2)
    logits[299] = 50
    label, code = encode(logits, (2, 2), "a")
    assert label.dtype == np.uint16
    assert set(label.ravel()) == {299}
    assert set(code.ravel()) == {CODES - 1}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    logits = torch.zeros(3, 4, 4)
    logits[1, 2, 2] = value
    with pytest.raises(InputError, match=r"night/7: the network's output is not finite"):
        encode(logits, (4, 4), "night/7")


def test_probabilities_are_confidences_as_they_are() -> None:
    prob = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(3)) / 4
    prob[:, 0] = 0.0
    label, code = encode(prob, (6, 5), "a", as_prob=True)
    assert np.array_equal(label, prob.max(0).indices.numpy())
    assert np.array_equal(code, confidence_codes(prob.amax(0)).numpy().view(np.uint16))
    assert (code[0] == 0).all()
