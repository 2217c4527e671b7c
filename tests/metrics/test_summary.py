import json

import pytest
import torch

from evenseg.metrics import summarize

COUNTS = torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]])
NAMES = ("road", "pole", "bus")


def test_figures() -> None:
    figures = summarize(COUNTS, NAMES, ("pole", "bus"))
    assert figures["per_class_iou"] == {"road": pytest.approx(6 / 9), "pole": pytest.approx(1 / 4), "bus": None}
    assert figures["per_class_accuracy"] == {"road": pytest.approx(6 / 8), "pole": pytest.approx(1 / 2), "bus": None}
    assert figures["miou"] == pytest.approx((6 / 9 + 1 / 4) / 2)
    assert figures["tail_miou"] == pytest.approx(1 / 4)
    assert figures["head_miou"] == pytest.approx(6 / 9)
    assert figures["pixel_accuracy"] == pytest.approx(7 / 10)
    assert figures["mean_accuracy"] == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert figures["frequency_weighted_iou"] == pytest.approx((8 * 6 / 9 + 2 / 4) / 10)


def test_json_without_nan() -> None:
    figures = summarize(torch.zeros(3, 3, dtype=torch.int64), NAMES, ("bus",))
    assert json.loads(json.dumps(figures, allow_nan=False))["miou"] is None
    assert summarize(COUNTS, NAMES, ("bus",))["tail_miou"] is None
    assert summarize(COUNTS, NAMES, NAMES)["head_miou"] is None


def test_mismatches_are_refused() -> None:
    with pytest.raises(ValueError, match="2 class names"):
        summarize(COUNTS, ("road", "pole"), ())
    with pytest.raises(ValueError, match="'tram'"):
        summarize(COUNTS, NAMES, ("tram",))
