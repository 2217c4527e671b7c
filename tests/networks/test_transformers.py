"""Vision transformers, Swin and ConvNeXt with DPT, UperNet and SegFormer: sizes, weights, layers, frozen encoders."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.optim import param_groups_layer_decay
from torch.nn import functional as F

from evenseg.config import NetworkConfig, OptimConfig
from evenseg.errors import InputError
from evenseg.methods.mean_teacher import MeanTeacher
from evenseg.methods.supervised import Supervised
from evenseg.networks import EMATeacher, SegmentationNetwork
from evenseg.networks.outline import encoder_layers, is_plain_transformer
from evenseg.networks.positions import resize_position_embedding
from evenseg.networks.twin import twin
from evenseg.training.optim import build_optimizer, parameter_groups

from ..training.helpers import train

TINY = "tu-test_vit"  # patches of 16 pixels on a grid of 10 x 10, 6 blocks of width 64
ENCODERS = [
    TINY,
    "tu-vit_small_patch14_dinov2",
    "tu-vit_small_patch14_reg4_dinov2",
    "tu-vit_small_patch16_dinov3",
    "tu-convnext_tiny",
    "tu-swin_tiny_patch4_window7_224",
]
ARCHITECTURES = ["dpt", "upernet", "segformer"]


def make(architecture: str = "dpt", encoder: str = TINY, **options) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(architecture, encoder, **{"num_classes": 3, **options})


@pytest.mark.parametrize(
    ("encoder", "architecture"),
    # every encoder and every architecture in the fast tests, all pairs in the slow ones
    [
        pytest.param(encoder, architecture, marks=() if (i - j) % 3 == 0 else pytest.mark.slow)
        for i, encoder in enumerate(ENCODERS)
        for j, architecture in enumerate(ARCHITECTURES)
    ],
)
def test_any_size_comes_back_and_learns(encoder, architecture):
    network = make(architecture, encoder)
    output = network(torch.rand(2, 3, 45, 71))
    assert output.logits.shape == (2, 3, 45, 71)
    output.logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    assert sum(p.grad.abs().sum() for p in network.encoder_parameters()) > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("encoder", [TINY, "tu-vit_small_patch14_dinov2"])
def test_sizes_beside_the_patch_are_padded_and_cut_off_again(architecture, encoder):
    network = make(architecture, encoder).eval()
    patch = network.multiple
    assert patch in (14, 16)
    image = torch.rand(1, 3, 3 * patch - 5, 5 * patch - 1)  # grids of odd size
    continued = F.pad(image, (0, 1, 0, 5), mode="replicate")
    with torch.no_grad():
        part, whole = network(image), network(continued)
    assert network.padded_size(*image.shape[-2:]) == (3 * patch, 5 * patch)
    torch.testing.assert_close(part.logits, whole.logits[..., :-5, :-1])
    assert part.features["low"].shape[-2:] == (3, 5)


def test_the_papers_crop_is_taken_as_it_is():
    network = make("dpt", "tu-vit_small_patch14_dinov2")
    assert network.padded_size(518, 798) == (518, 798)


def test_dpt_enlarges_each_map_to_the_next():
    network = make("dpt").eval()
    encoded = network.encoder(torch.rand(1, 3, 80, 112))  # grid 5 x 7; maps of 20x28, 10x14, 5x7, 3x4
    decoder, fused = network.decoder, None
    for level in (3, 2, 1, 0):
        feature = decoder.projection_blocks[level](encoded[0][level], encoded[1][level])
        feature = decoder.reassemble_blocks[level](feature)
        block = decoder.fusion_blocks[3 - level]
        fused = block.residual_conv_block1(feature) + (0 if fused is None else fused)
        size = {3: (5, 7), 2: (10, 14), 1: (20, 28), 0: (40, 56)}[level]
        fused = F.interpolate(block.residual_conv_block2(fused), size=size, mode="bilinear", align_corners=True)
        fused = block.project(fused)
    torch.testing.assert_close(decoder(encoded), fused)


def test_the_pyramid_has_the_strides_of_a_convolutional_encoder():
    network = make("upernet").eval()
    maps = network.encoder(torch.rand(1, 3, 112, 80))[0]
    sizes = [tuple(layer(each).shape[-2:]) for layer, each in zip(network.decoder.pyramid, maps, strict=True)]
    assert sizes == [(28, 20), (14, 10), (7, 5), (4, 3)]
    assert network.channels == {"low": 64, "middle": 64, "high": 64, "decoder": 256}


def test_what_does_not_go_together_names_what_does():
    for architecture in ("fpn", "unet", "deeplabv3plus"):
        with pytest.raises(InputError, match=r"test_vit does not go with .*upernet"):
            make(architecture)
    assert is_plain_transformer(TINY)
    assert not any(map(is_plain_transformer, ("tu-test_convnext", "mit_b0", "resnet18")))


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("test_vit", "dpt"),
        ("test_vit", "segformer"),
        ("vit_small_patch16_dinov3", "dpt"),
        ("vit_small_patch14_reg4_dinov2", "upernet"),
    ],
)
def test_a_timm_state_dict_gives_timms_features(tmp_path, name, architecture):
    torch.manual_seed(1)
    model = timm.create_model(name, dynamic_img_size=True).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    network = make(architecture, f"tu-{name}", weights=str(tmp_path / "weights.safetensors")).eval()
    report = network.weights_report
    assert "not in the file" not in report
    assert "of another shape" not in report
    side = 4 * network.multiple
    image = torch.rand(1, 3, side, side + 2 * network.multiple)
    depth = len(model.blocks)
    with torch.no_grad():
        ours = network.encoder(image)[0]
        theirs = model.forward_intermediates(image, indices=[depth * k // 4 - 1 for k in (1, 2, 3, 4)])[1]
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left, right)


def test_position_embeddings_of_another_grid_are_resized_as_timm_does(tmp_path):
    small = timm.create_model("test_vit", img_size=96)
    state = small.state_dict()
    torch.save(state, tmp_path / "weights.pt")
    network = make(weights=str(tmp_path / "weights.pt"))
    assert "resized: encoder.model.pos_embed from (1, 37, 64) to (1, 101, 64)" in network.weights_report
    expected = resample_abs_pos_embed(state["pos_embed"], new_size=[10, 10], num_prefix_tokens=1)
    assert torch.equal(network.encoder.model.pos_embed, expected)


def test_resized_embeddings_keep_their_further_tokens():
    embedding = torch.randn(1, 5 + 16, 3)
    resized = resize_position_embedding(embedding, 5 + 49)
    assert torch.equal(resized[:, :5], embedding[:, :5])
    constant = torch.ones(1, 1 + 9, 2)
    torch.testing.assert_close(resize_position_embedding(constant, 1 + 25), torch.ones(1, 26, 2))
    assert resize_position_embedding(embedding, 5 + 50) is None


def test_position_embeddings_of_another_kind_are_refused(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    path = tmp_path / "weights.pt"
    for shape in ((1, 100, 64), (1, 101, 32), (101, 64)):
        torch.save(state | {"pos_embed": torch.zeros(shape)}, path)
        with pytest.raises(InputError, match=rf"pos_embed of {path} .*cannot be interpolated"):
            make(weights=str(path))


@pytest.mark.parametrize(
    ("architecture", "encoder", "name"),
    [
        ("dpt", "tu-test_vit", "test_vit"),
        ("upernet", "tu-test_convnext", "test_convnext"),
        ("segformer", "tu-convnextv2_atto", "convnextv2_atto"),
        ("fpn", "resnet18", "resnet18"),
    ],
)
def test_learning_rates_decay_by_timms_layers(architecture, encoder, name):
    method = Supervised(make(architecture, encoder))
    config = OptimConfig(name="adamw", lr=0.5, head_lr=4.0, layer_decay=0.7)
    optimizer = build_optimizer(parameter_groups(method, config), config)
    rates = {id(p): group["base_lr"] for group in optimizer.param_groups for p in group["params"]}
    model = timm.create_model(name)
    # with a classifier on top, timm counts from it as we count from the decoder
    groups = param_groups_layer_decay(model, layer_decay=0.7)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    theirs = {key.replace(".", "_"): scales[id(p)] for key, p in model.named_parameters()}
    network = method.student
    for key, parameter in network.encoder.named_parameters():
        if parameter.requires_grad:
            scale = theirs[key.removeprefix("model.").replace(".", "_")]
            assert rates[id(parameter)] == pytest.approx(0.5 * scale), key
    assert {rates[id(p)] for p in network.head_parameters()} == {2.0}
    assert len(rates) == sum(p.requires_grad for p in network.parameters())
    assert optimizer.param_groups[-1]["name"] == "head"


def test_layers_that_are_in_no_known_order_are_refused():
    with pytest.raises(InputError, match=r"optim\.layer_decay: .*mit_b0"):
        encoder_layers(dict(make("segformer", "mit_b0").encoder.named_parameters()), "mit_b0")


def test_without_decay_groups_are_the_methods():
    method = MeanTeacher(make())
    assert parameter_groups(method, OptimConfig()) == method.param_groups()
    divided = parameter_groups(method, OptimConfig(layer_decay=0.5))
    assert [group.lr for group in divided] == [0.5**depth for depth in (7, 6, 5, 4, 3, 2, 1)] + [1.0]


@pytest.mark.parametrize(("architecture", "encoder"), [("dpt", TINY), ("fpn", "tu-test_resnet")])
def test_a_frozen_encoder_is_left_alone(architecture, encoder):
    network = make(architecture, encoder, frozen_encoder=True, auxiliary=True)
    before = copy.deepcopy(network.state_dict())
    encoded = network.encoder(torch.rand(2, 3, 64, 64))
    maps = encoded[0] if isinstance(encoded, tuple) else encoded
    assert not any(each.requires_grad for each in maps)  # nothing is kept for a way back
    teacher = EMATeacher(network, buffers="own", mode="train")
    output = network(torch.rand(2, 3, 64, 64))
    output.logits.square().mean().backward()
    assert not any(module.training for each in (network, teacher.network) for module in each.encoder.modules())
    assert network.decoder.training
    assert network.encoder_parameters() == []
    assert all(parameter.grad is None for parameter in network.encoder.parameters())
    optimizer = build_optimizer(Supervised(network).param_groups(), OptimConfig())
    optimizer.step()
    teacher.update(network, 3)
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[f"encoder.{name}"]), name
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert twin(network).frozen_encoder


def test_options_of_the_configuration():
    assert not NetworkConfig().frozen_encoder
    with pytest.raises(ValueError, match="layer_decay"):
        OptimConfig(layer_decay=0.0)


def test_a_short_training_by_layers(tmp_path, capsys):
    options = ["network.architecture=segformer", f"network.encoder={TINY}", "train.steps=2", "train.validate_every=2"]
    optim = "optim={name: adamw, lr: 0.001, layer_decay: 0.8}"
    assert train(tmp_path, tmp_path / "run", "method=cutmix_seg", *options, optim) == 0
    capsys.readouterr()
    assert train(tmp_path, tmp_path / "none", *options, "network.encoder=mit_b0", optim) == 2
    assert "optim.layer_decay" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
