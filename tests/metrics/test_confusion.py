"""The confusion matrix and its figures, against brute force and torchmetrics."""

import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from evenseg.metrics.confusion import (
    ConfusionMatrix,
    class_accuracy,
    confusion_counts,
    frequency_weighted_iou,
    iou_per_class,
    mean_over_classes,
    pixel_accuracy,
)

# Truth 0: 3 of 4 found; truth 1: 1 of 2 found; class 2 never occurs but is predicted twice; 3 is absent altogether.
COUNTS = torch.tensor([[3, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def random_pair(num_classes: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randint(0, num_classes, (3, 17, 19), generator=generator)
    label = torch.randint(0, num_classes, (3, 17, 19), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255 if num_classes <= 255 else 65535
    return pred, label.to(dtype)


@pytest.mark.parametrize(
    ("num_classes", "dtype"),
    [
        *((count, torch.uint8) for count in (1, 2, 19, 180, 181, 255)),
        *((count, torch.int32) for count in (256, 300)),
        (19, torch.int64),
    ],
)
def test_counts_agree_with_torchmetrics(num_classes: int, dtype: torch.dtype) -> None:
    pred, label = random_pair(num_classes, dtype)
    wide = label.long()
    valid = wide < num_classes
    if num_classes == 1:
        expected = valid.sum().view(1, 1)
    else:
        expected = multiclass_confusion_matrix(pred[valid], wide[valid], num_classes=num_classes)
    counts = confusion_counts(pred, label, num_classes)
    assert counts.dtype == torch.int64
    assert torch.equal(counts, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_dtype_of_the_prediction_does_not_matter(dtype: torch.dtype) -> None:
    pred, label = random_pair(11, torch.uint8)
    assert torch.equal(confusion_counts(pred.to(dtype), label, 11), confusion_counts(pred, label, 11))


def test_iou_agrees_with_torchmetrics() -> None:
    pred, label = random_pair(7, torch.int64)
    expected = multiclass_jaccard_index(pred, label, num_classes=7, ignore_index=255, average="none")
    assert torch.allclose(iou_per_class(confusion_counts(pred, label, 7)), expected.double(), atol=1e-6)


def test_figures_by_hand() -> None:
    iou = iou_per_class(COUNTS)
    assert iou[:2].tolist() == [3 / 4, 1 / 2]
    assert iou[2:].isnan().all()  # not in the truth: no figure, even where it is predicted
    assert class_accuracy(COUNTS)[:2].tolist() == [3 / 4, 1 / 2]
    assert class_accuracy(COUNTS)[2:].isnan().all()
    assert float(pixel_accuracy(COUNTS)) == pytest.approx(4 / 6)
    assert float(mean_over_classes(iou)) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert float(mean_over_classes(iou, [1, 2])) == 1 / 2
    assert math.isnan(float(mean_over_classes(iou, [2, 3])))
    assert math.isnan(float(mean_over_classes(iou, [])))
    assert float(frequency_weighted_iou(COUNTS)) == pytest.approx((4 * 3 / 4 + 2 * 1 / 2) / 6)


def test_false_positives_count_against_the_predicted_class() -> None:
    counts = torch.tensor([[8, 2], [0, 5]])
    assert iou_per_class(counts).tolist() == [8 / 10, 5 / 7]


def test_empty_matrix_has_no_figures() -> None:
    counts = torch.zeros(3, 3, dtype=torch.int64)
    assert iou_per_class(counts).isnan().all()
    assert pixel_accuracy(counts).isnan()
    assert frequency_weighted_iou(counts).isnan()


def test_everything_ignored_counts_nothing() -> None:
    label = torch.full((4, 4), 255, dtype=torch.uint8)
    assert confusion_counts(torch.zeros(4, 4, dtype=torch.int64), label, 3).sum() == 0


def test_wrong_input_is_refused() -> None:
    pred = torch.zeros(4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_counts(pred, torch.zeros(4, 5, dtype=torch.uint8), 3)
    with pytest.raises(ValueError, match="from 0 to 3"):
        confusion_counts(pred.fill_diagonal_(3), torch.zeros(4, 4, dtype=torch.uint8), 3)
    with pytest.raises(ValueError, match="-100 is negative"):
        confusion_counts(torch.zeros(4, 4, dtype=torch.int64), torch.full((4, 4), -100), 3)


def test_sums_do_not_depend_on_the_batches() -> None:
    pred, label = random_pair(5, torch.uint8)
    parts, rest = ConfusionMatrix(5), ConfusionMatrix(5)
    parts.update(pred[0], label[0])
    rest.update(pred[1:], label[1:])
    parts.add(rest)
    assert torch.equal(parts.counts, confusion_counts(pred, label, 5))
    parts.all_reduce()  # the identity outside a distributed run
    assert torch.equal(parts.counts, confusion_counts(pred, label, 5))


def test_counts_beyond_float32_are_exact() -> None:
    matrix = ConfusionMatrix(2)
    matrix.counts[0, 0] = 2**40
    matrix.update(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.uint8))
    assert int(matrix.counts[0, 0]) == 2**40 + 1
