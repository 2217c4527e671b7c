"""The stand-alone example resizes as evenseg does; ``tests/cli/test_take_away.py`` runs it whole."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evenseg.data.resize import Resize, resize_image
from evenseg.inference.pictures import enlarged_label

from .sharpen import scenes

pytest.importorskip("onnxruntime")
EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "onnx_predict.py"))


@pytest.mark.parametrize("resize", [None, 48, 150, (60, 70)])
@pytest.mark.parametrize("turned", [False, True])
def test_images_are_resized_alike(resize: Resize, turned: bool) -> None:
    image = scenes(1, (97, 131))[0]
    image = np.ascontiguousarray(image.transpose(1, 0, 2)) if turned else image
    resized = EXAMPLE["resized_for"]({"resize": resize}, Image.fromarray(image))
    expected = resize_image(image, resize)
    assert resized.shape == expected.shape
    assert np.abs(resized.astype(int) - expected).max() <= 2


def test_labels_are_enlarged_alike() -> None:
    logits = 3 * torch.randn(7, 20, 30, generator=torch.Generator().manual_seed(0))
    label = EXAMPLE["label_of"](logits.numpy(), (75, 55))
    expected = enlarged_label(logits.softmax(dim=0)[None], (55, 75))[0].numpy()
    assert label.shape == (55, 75)
    assert np.mean(label == expected) > 0.999
    assert np.array_equal(EXAMPLE["label_of"](logits.numpy(), (30, 20)), logits.argmax(dim=0).numpy())
