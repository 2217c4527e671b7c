"""Branches: a second network on shared low stages."""

import copy

import pytest
import torch

from evenseg.errors import InputError
from evenseg.methods.base import Predictor
from evenseg.networks.base import SegmentationNetwork

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def branched(share="low", architecture="deeplabv3plus", encoder="resnet18", **options):
    torch.manual_seed(0)
    network = SegmentationNetwork(architecture, encoder, num_classes=4, **options)
    network.add_branch("subclass", 9, share=share)
    return network


def trainable(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("share", ["none", "low", "high"])
@pytest.mark.parametrize("architecture", ["deeplabv3plus", "pspnet", "unet", "deeplabv2"])
def test_branch_gives_logits_at_the_decoders_size(share, architecture):
    network = branched(share, architecture)
    output = network(IMAGE)
    assert output.coarse["subclass"].shape[:2] == (2, 9)
    assert output.coarse["subclass"].shape[2:] == output.coarse["class"].shape[2:]
    output.coarse["subclass"].square().mean().backward()
    assert all(p.grad is not None for p in network.branches.parameters() if p.requires_grad)


def test_coarse_logits_are_the_logits_before_they_are_enlarged():
    network = branched().eval()
    image = torch.rand(1, 3, 57, 70)
    output = network(image)
    enlarged = torch.nn.functional.interpolate(output.coarse["class"], (64, 80), mode="bilinear", align_corners=True)
    assert torch.equal(enlarged[..., :57, :70], output.logits)


def test_own_stages_start_as_copies_and_live_for_themselves():
    network = branched()
    pairs = list(zip(network.branches["subclass"].encoder.children(), ("layer2", "layer3", "layer4"), strict=True))
    for own, name in pairs:
        theirs = getattr(network.encoder, name)
        for ours, other in zip(own.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(ours, other)
            assert ours is not other
    output = network(IMAGE)
    output.coarse["subclass"].sum().backward()
    assert network.encoder.conv1.weight.grad is not None  # shared
    assert all(p.grad is None for p in network.encoder.layer3.parameters())  # not shared


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet", "tu-test_convnext"])
def test_shared_low_stages_compute_what_a_whole_encoder_does(encoder):
    """With equal weights a branch that shares the low stages gives the logits of one that shares nothing."""
    low, none = (
        branched("low", encoder=encoder, architecture="fpn"),
        branched("none", encoder=encoder, architecture="fpn"),
    )
    none.branches["subclass"].decoder.load_state_dict(low.branches["subclass"].decoder.state_dict())
    none.branches["subclass"].segmentation_head.load_state_dict(low.branches["subclass"].segmentation_head.state_dict())
    none.branches["subclass"].encoder.load_state_dict(low.encoder.state_dict())
    for network in (low, none):
        network.eval()
    torch.testing.assert_close(low(IMAGE).coarse["subclass"], none(IMAGE).coarse["subclass"])


def test_the_more_is_shared_the_fewer_parameters_there_are():
    counts = [trainable(branched(share)) for share in ("none", "low", "high")]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_norm_layers_of_a_branch_are_those_of_the_network(norm):
    network = branched(norm=norm)
    found = [m for m in network.branches.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert bool(found) == (norm != "group")
    assert all(m.training == (norm == "batch") for m in found)


def test_predictions_do_not_depend_on_a_branch_nor_pay_for_it():
    network = branched().eval()
    plain = copy.deepcopy(network)
    del plain.branches["subclass"]
    assert torch.equal(Predictor(network)(IMAGE), Predictor(plain)(IMAGE))
    network.branches["subclass"].register_forward_pre_hook(lambda *_: pytest.fail("the branch was run"))
    Predictor(network)(IMAGE)
    assert "subclass" not in network(IMAGE, extras=False).coarse


def test_stages_of_the_encoder_learn_at_its_rate():
    network = branched()
    encoder = {id(p) for p in network.encoder_parameters()}
    assert {id(p) for p in network.branches["subclass"].encoder.parameters()} <= encoder
    head = {id(p) for p in network.head_parameters()}
    assert not encoder & head
    assert encoder | head == {id(p) for p in network.parameters() if p.requires_grad}


def test_an_encoder_that_cannot_be_divided_is_refused():
    network = SegmentationNetwork("unet", "tu-mobilenetv3_small_050", num_classes=3)
    with pytest.raises(InputError, match="cannot be divided behind its map at stride 4; choose share=none or high"):
        network.add_branch("subclass", 5, share="low")
    network.add_branch("subclass", 5, share="none")
    with pytest.raises(ValueError, match="already"):
        network.add_branch("subclass", 5, share="none")
