"""Names, combinations and hub weights: what works, and one plain line for what does not."""

from __future__ import annotations

import pytest
import torch

from evenseg.errors import InputError
from evenseg.networks import SegmentationNetwork, architecture_names, encoder_names
from evenseg.networks.build import resolve_architecture, resolve_encoder


def refusal(architecture: str = "fpn", encoder: str = "resnet18", **options) -> str:
    with pytest.raises(InputError) as caught:
        SegmentationNetwork(architecture, encoder, num_classes=3, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names():
    assert "deeplabv2" in architecture_names()
    assert {"resnet50", "tu-resnet50"} <= set(encoder_names())
    assert resolve_architecture("DeepLabV3+") == resolve_architecture("DeepLab-v3-plus") == "deeplabv3plus"
    assert resolve_architecture("UNet++") == "unetplusplus"
    assert resolve_encoder("ResNet50") == "resnet50"
    assert resolve_encoder("tu-resnet18.a1_in1k") == "tu-resnet18.a1_in1k"


def test_unknown_names_come_with_the_nearest():
    assert "deeplabv3plus" in refusal("deeplabv3pluss")
    assert "resnet50" in refusal(encoder="resnet55")
    assert "tu-convnext_atto" in refusal(encoder="tu-convnext_ato")
    assert "'tu-convnext_atto'" in refusal(encoder="convnext_atto")
    assert "tu-resnet18.a1_in1k" in refusal(encoder="tu-resnet18.a9_in1k")


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("deeplabv3plus", "densenet121"), ("deeplabv2", "densenet121"), ("pspnet", "tu-swin_tiny_patch4_window7_224")],
)
def test_encoders_that_cannot_be_dilated(architecture, encoder):
    message = refusal(architecture, encoder)
    assert encoder in message
    assert "dilated" in message


def test_other_combinations_that_do_not_exist():
    assert "vision transformer" in refusal("dpt", "resnet18")
    assert "unetplusplus" in refusal("unetplusplus", "mit_b0")
    assert "does not go with fpn" in refusal("fpn", "tu-vit_tiny_patch16_224")
    assert "8 or 16, not 32" in refusal("deeplabv3plus", output_stride=32)


@pytest.mark.parametrize(
    ("architecture", "requested", "stride"),
    [
        ("deeplabv3plus", None, 16),
        ("deeplabv3plus", 8, 8),
        ("deeplabv3", None, 8),
        ("deeplabv2", None, 8),
        ("pspnet", 16, 16),
        ("pan", 32, 32),
        ("unet", 8, 32),
    ],
)
def test_output_stride(architecture, requested, stride):
    network = SegmentationNetwork(architecture, "tu-test_efficientnet", num_classes=3, output_stride=requested).eval()
    assert network(torch.rand(1, 3, 256, 256)).features["high"].shape[-1] == 256 // stride


def test_atrous_rates_follow_the_output_stride():
    for stride, rates in ((16, {6, 12, 18}), (8, {12, 24, 36})):
        network = SegmentationNetwork("deeplabv3plus", "tu-test_efficientnet", num_classes=3, output_stride=stride)
        dilations = {m.dilation[0] for m in network.decoder.modules() if isinstance(m, torch.nn.Conv2d)}
        assert rates <= dilations <= rates | {1}


def test_normalisation_of_timm_encoders_is_their_own():
    network = SegmentationNetwork("fpn", "tu-mobilenetv3_small_050", num_classes=3)
    other = SegmentationNetwork("fpn", "tu-tf_mobilenetv3_small_minimal_100", num_classes=3)
    image = torch.full((1, 3, 1, 1), 0.5)
    torch.testing.assert_close(image * other.scale + other.shift, torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(
        (image * network.scale + network.shift).flatten(),
        (torch.tensor([0.5] * 3) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]),
    )


def test_hub_weights(monkeypatch):
    assert "choose one of imagenet" in refusal(weights="imagnet")
    assert "a1_in1k" in refusal(encoder="tu-resnet18", weights="imagnet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    assert "local file" in refusal(weights="imagenet")
    assert "local file" in refusal(encoder="tu-resnet18", weights="imagenet")
