"""The network interface: sizes, padding, features, heads, parameters."""

from __future__ import annotations

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional as F

from evenseg.errors import InputError
from evenseg.networks import SegmentationNetwork, architecture_names

VIT = "tu-vit_tiny_patch16_224"
SMALL = "tu-test_efficientnet"


def make(architecture: str = "fpn", encoder: str = SMALL, **options) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(architecture, encoder, **{"num_classes": 5, **options})


@pytest.mark.parametrize("architecture", architecture_names())
def test_any_size_comes_out_and_gradient_reaches_every_trainable_parameter(architecture):
    network = make(architecture, VIT if architecture == "dpt" else SMALL, auxiliary=True)
    output = network(torch.rand(2, 3, 65, 98))
    assert output.logits.shape == (2, 5, 65, 98)
    assert output.heads["auxiliary"].shape == (2, 5, 65, 98)
    for name, feature in output.features.items():
        assert feature.shape[:2] == (2, network.channels[name])
    (output.logits.mean() + output.heads["auxiliary"].mean()).backward()
    unreached = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert unreached == []
    network.eval()
    for height, width in ((1, 1), (17, 40)):
        output = network(torch.rand(1, 3, height, width))
        assert output.logits.shape == (1, 5, height, width)
        assert output.logits.isfinite().all()


@pytest.mark.parametrize("architecture", architecture_names())
def test_a_second_pass_of_the_decoder_sees_the_maps_times_factors(architecture):
    network = make(architecture, VIT if architecture == "dpt" else SMALL).eval()
    image = torch.rand(2, 3, 65, 98)
    alone = network(image)
    factors = torch.ones(2, network.decoded_channels)
    same = network(image, second_factor=factors)
    for one, other in ((same.logits, alone.logits), (same.heads["perturbed"], alone.logits)):
        torch.testing.assert_close(one, other)
    for name, feature in alone.features.items():
        torch.testing.assert_close(same.features[name], feature)
    factors[0] = 0  # nothing of the first image is left, all of the second
    less = network(image, second_factor=factors)
    torch.testing.assert_close(less.logits, alone.logits)
    torch.testing.assert_close(less.heads["perturbed"][1], alone.logits[1])
    assert not torch.allclose(less.heads["perturbed"][0], alone.logits[0])


REFERENCES = {
    "deeplabv3": {"encoder_output_stride": 8, "decoder_atrous_rates": (12, 24, 36)},
    "deeplabv3plus": {"encoder_output_stride": 16, "decoder_atrous_rates": (6, 12, 18)},
    "pspnet": {"encoder_depth": 5, "output_stride": 8, "upsampling": 8},
    "pan": {"encoder_output_stride": 16},
    "dpt": {"dynamic_img_size": True, "num_classes": 0},
}


@pytest.mark.parametrize("architecture", sorted(set(architecture_names()) - {"deeplabv2"}))
def test_a_size_that_needs_no_padding_gives_what_smp_gives_on_the_normalised_image(architecture):
    encoder = VIT if architecture == "dpt" else SMALL
    network = make(architecture, encoder).eval()
    options = REFERENCES.get(architecture, {})
    reference = smp.create_model(architecture, encoder, encoder_weights=None, classes=5, **options).eval()
    reference.encoder.load_state_dict(network.encoder.state_dict())
    reference.decoder.load_state_dict(network.decoder.state_dict())
    head = reference.segmentation_head.head if architecture == "dpt" else reference.segmentation_head[0]
    head.load_state_dict(network.segmentation_head.state_dict())
    image = torch.rand(1, 3, 128, 160)
    mean, std = (0.5, 0.5) if architecture == "dpt" else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    normalised = (image - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(image).logits, reference(normalised), atol=1e-4, rtol=1e-4)


def test_padding_continues_the_edge_and_is_cut_off():
    network = make("deeplabv3plus", SMALL).eval()
    image = torch.rand(1, 3, 49, 70)
    continued = F.pad(image, (0, 10, 0, 15), mode="replicate")
    with torch.no_grad():
        padded, whole = network(image), network(continued)
    torch.testing.assert_close(padded.logits, whole.logits[..., :49, :70])
    torch.testing.assert_close(padded.features["low"], whole.features["low"][..., :13, :18])
    torch.testing.assert_close(padded.features["high"], whole.features["high"][..., :4, :5])


def test_decoders_with_pooling_of_their_own_get_images_large_enough():
    network = make("pan", SMALL).eval()
    assert network.padded_size(10, 200) == (network.smallest, 208)
    assert network(torch.rand(1, 3, 10, 200)).logits.shape == (1, 5, 10, 200)


def test_patches_that_are_no_power_of_two():
    network = make("dpt", "tu-eva02_tiny_patch14_224").eval()
    assert network.multiple == 14
    assert network(torch.rand(1, 3, 60, 84)).logits.shape == (1, 5, 60, 84)


def test_normalisation_is_saved_and_the_low_feature_has_stride_four():
    network = make("fpn", "tu-test_convnext")
    assert {"scale", "shift"} <= network.state_dict().keys()
    output = network(torch.rand(2, 3, 64, 96))
    assert output.features["low"].shape[-2:] == (16, 24)
    assert output.features["high"].shape[-2:] == (2, 3)


def test_extra_heads():
    network = make("fpn", norm="group")
    network.add_head("projection", nn.Conv2d(network.channels["high"], 7, 1), on="high", upsample=False)
    network.add_head("subclass", nn.Sequential(nn.Conv2d(network.channels["decoder"], 9, 1), nn.BatchNorm2d(9)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    heads = network(torch.rand(2, 3, 65, 33)).heads
    assert heads["projection"].shape == (2, 7, 3, 2)
    assert heads["subclass"].shape == (2, 9, 65, 33)
    assert any(name.startswith("heads.subclass.") for name in network.state_dict())
    with pytest.raises(ValueError, match="subclass"):
        network.add_head("subclass", nn.Identity())


def test_a_head_on_the_decoder_is_upsampled_as_the_logits_are():
    network = make("fpn").eval()
    network.add_head("twin", network.segmentation_head)
    output = network(torch.rand(1, 3, 50, 50))
    torch.testing.assert_close(output.heads["twin"], output.logits)


def test_the_auxiliary_head_serves_training_only():
    network = make("deeplabv3plus", SMALL, auxiliary=True)
    assert set(network(torch.rand(2, 3, 32, 32)).heads) == {"auxiliary"}
    assert network.eval()(torch.rand(2, 3, 32, 32)).heads == {}


@pytest.mark.parametrize(("architecture", "encoder"), [("upernet", SMALL), ("fpn", "efficientnet-b0")])
def test_every_trainable_parameter_is_in_exactly_one_group(architecture, encoder):
    network = make(architecture, encoder, auxiliary=True)
    network.add_head("extra", nn.Conv2d(network.channels["decoder"], 2, 1))
    groups = [id(p) for p in network.encoder_parameters() + network.head_parameters()]
    assert len(groups) == len(set(groups))
    assert set(groups) == {id(p) for p in network.parameters() if p.requires_grad}
    assert {id(p) for p in network.encoder_parameters()} <= {id(p) for p in network.encoder.parameters()}


def test_autocast_channels_last_and_copies():
    network = make("deeplabv3plus", SMALL).to(memory_format=torch.channels_last).eval()
    image = torch.rand(2, 3, 48, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = network(image).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = copy.deepcopy(network)(image).logits
    assert rough.dtype == torch.bfloat16
    assert exact.is_contiguous(memory_format=torch.channels_last)
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_one_image_under_pooled_batch_norm_is_refused_with_the_remedy():
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(InputError, match=r"two images.*network\.norm"):
        make("deeplabv3plus", SMALL)(image)
    for network in (
        make("deeplabv3plus", SMALL).eval(),
        make("deeplabv3plus", SMALL, norm="group"),
        make("deeplabv3plus", SMALL, norm="frozen"),
    ):
        assert network(image).logits.isfinite().all()
    assert make("fpn")(image).logits.isfinite().all()


def test_building_a_network_draws_the_same_weights_whatever_was_built_before():
    first = make("pan", SMALL).state_dict()
    make("unet", SMALL)
    second = make("pan", SMALL).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
