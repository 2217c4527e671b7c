"""What a run leaves beside its figures: pictures, confusions, objects by size."""

import json

import numpy as np
import pytest
import torch

from evenseg.data.image_io import decode_image, decode_label
from evenseg.errors import InputError
from evenseg.metrics.confusion import iou_per_class
from evenseg.training.score_files import read_confusion, read_objects

from .helpers import train


def test_pictures_and_score_files_of_a_run(tmp_path):
    run = tmp_path / "run"
    options = ["method=cutmix_seg", "method.threshold=0", "train.steps=6", "health.pictures=2"]
    assert train(tmp_path, run, *options) == 0
    names = sorted(path.name for path in (run / "pictures").iterdir())
    steps = [f"{kind}-{step:06d}-{i}" for kind in ("predicted", "seen") for step in (4, 6) for i in (0, 1)]
    expected = [f"{name}.png" for name in steps] + [f"{name}.jpg" for name in steps if name.startswith("seen")]
    expected += ["image-0.jpg", "image-1.jpg", "label-0.png", "label-1.png"]
    assert names == sorted(expected)
    assert decode_image(run / "pictures" / "image-0.jpg").shape == (64, 64, 3)
    classes = len(json.loads((run / "classes.json").read_text())["names"])
    assert decode_label(run / "pictures" / "predicted-000006-0.png").max() < classes
    seen = decode_label(run / "pictures" / "seen-000006-0.png")
    assert seen.shape == (48, 48)
    assert ((seen < classes) | (seen == 255)).all()

    result = json.loads((run / "result.json").read_text())
    confusion = read_confusion(run)
    iou = iou_per_class(confusion)
    for value, expected_iou in zip(iou.tolist(), result["per_class_iou"].values(), strict=True):
        assert value == pytest.approx(expected_iou, abs=1e-9) if expected_iou is not None else np.isnan(value)
    objects = read_objects(run)
    assert torch.equal(objects.pixels.sum(dim=1), confusion.sum(dim=1))  # every labeled pixel is in one object
    assert torch.equal(objects.right.sum(dim=1), confusion.diagonal())
    assert (objects.right <= objects.pixels).all()


def test_without_pictures_or_pseudo_labels(tmp_path):
    assert train(tmp_path, tmp_path / "none", "method=supervised", "train.steps=2", "health.pictures=0") == 0
    assert not (tmp_path / "none" / "pictures").exists()
    assert train(tmp_path, tmp_path / "some", "method=supervised", "train.steps=2", "health.pictures=1") == 0
    names = sorted(path.name for path in (tmp_path / "some" / "pictures").iterdir())
    assert names == ["image-0.jpg", "label-0.png", "predicted-000002-0.png"]


@pytest.mark.parametrize("name", ["confusion.csv", "objects.json"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_text('{"objects": [1')
    with pytest.raises(InputError, match=f"{name}: damaged; remove it"):
        (read_confusion if name == "confusion.csv" else read_objects)(tmp_path)
