"""Graphs of a convolutional network and of transformers against the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evenseg.errors import InputError
from evenseg.export import TrainedModel
from evenseg.export.check import check
from evenseg.export.formats import FORMATS, Format, torch_predictor
from evenseg.export.graph import BytesToLogits, smallest_side, trace
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.prototypes import PrototypeOptions

from .sharpen import random_model, scenes


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("deeplabv3plus", "resnet18"), ("unet", "resnet18"), ("dpt", "tu-vit_tiny_patch16_224")],
)
def test_the_traceable_form_is_the_network(architecture: str, encoder: str) -> None:
    network = random_model(architecture, encoder).network
    for size in ((64, 96), (67, 131)):
        image = torch.from_numpy(np.stack(scenes(2, size))).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            expected = network(image.float() / 255).logits
            assert torch.allclose(BytesToLogits(network)(image), expected, rtol=0, atol=1e-4)


def test_the_traceable_form_of_prototypes() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork("unet", "resnet18", num_classes=5)
    network.use_prototypes(PrototypeOptions(dimension=8, center=True), torch.tensor([1, 2, 0, 4, 5])).bank.begin(
        "random"
    )
    program = trace(network.eval()).module()
    image = torch.from_numpy(np.stack(scenes(2, (67, 131)))).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        assert torch.allclose(program(image), network(image.float() / 255).logits, rtol=0, atol=1e-3)


def agrees(model: TrainedModel, format: Format, folder: Path) -> None:
    images = scenes(3)
    trained = torch_predictor(model)
    labels = trained(np.stack(images).transpose(0, 3, 1, 2)).argmax(axis=1)
    assert np.bincount(labels.ravel(), minlength=5).min() > 0.02 * labels.size  # else agreement says little
    options = {"multiple": model.network.multiple, "smallest": smallest_side(model.network)}

    FORMATS[format].write(model, folder)
    (path,) = folder.iterdir()
    assert b"networks/base.py" not in path.read_bytes()  # no paths of the machine that wrote it
    written = FORMATS[format].read(folder)
    assert check(written, trained, images, **options).lowest >= 0.999
    with torch.no_grad():
        model.network.shift += 0.2  # the comparison notices a change of the network
    with pytest.raises(InputError, match="of the pixels the label"):
        check(written, trained, images, **options)
    smallest = np.zeros((1, 3, options["smallest"], options["smallest"]), np.uint8)
    assert written(smallest).shape == (1, 5, *smallest.shape[2:])


def test_a_transformer(tmp_path: Path) -> None:
    agrees(random_model("segformer", "mit_b0"), "torch-export", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch-export"])
@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("deeplabv3plus", "resnet18"),
        ("deeplabv2", "resnet18"),
        ("unet", "resnet18"),
        ("fpn", "resnet18"),
        ("segformer", "mit_b0"),
        ("dpt", "tu-vit_tiny_patch16_224"),
        ("segformer", "tu-test_vit"),
    ],
)
def test_architectures(architecture: str, encoder: str, format: Format, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    agrees(random_model(architecture, encoder), format, tmp_path)


def test_what_cannot_be_traced_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SegmentationNetwork("unet", "resnet18", num_classes=2).eval()
    encode = network.encoder.forward
    # how many maps there are may not depend on the pixels
    monkeypatch.setattr(network.encoder, "forward", lambda image: encode(image)[: 6 if image.sum() > 0 else 5])
    with pytest.raises(
        InputError, match=r"unet on resnet18 cannot be made a graph .*; use --format safetensors"
    ) as error:
        trace(network)
    assert "\n" not in str(error.value)
