"""Weights from local files."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from evenseg.errors import InputError
from evenseg.networks import EMATeacher, SegmentationNetwork
from evenseg.networks.weights import is_path


def make(encoder: str = "resnet18", architecture: str = "fpn", **options) -> SegmentationNetwork:
    return SegmentationNetwork(architecture, encoder, **{"num_classes": 3, **options})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("timm_name", "encoder"),
    [("resnet18", "resnet18"), ("test_resnet", "tu-test_resnet"), ("test_convnext", "tu-test_convnext")],
)
def test_timm_state_dict_of_the_encoder(tmp_path, suffix, timm_name, encoder):
    reference = timm.create_model(timm_name, features_only=True).eval()
    whole = timm.create_model(timm_name)
    state = whole.state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    network = make(encoder, weights=str(path)).eval()
    assert "of the encoder" in network.weights_report
    assert "fc" in network.weights_report.split("not used: ")[1]
    matched, total = network.weights_report.split("matched ")[1].split(" tensors")[0].split(" of ")
    assert matched == total
    reference.load_state_dict(
        {k.replace("stages.", "stages_").replace("stem.", "stem_"): v for k, v in state.items()}, strict=False
    )
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(image)[-1], reference(image)[-1], atol=1e-4, rtol=1e-4)


def test_wrapped_and_partly_matching_files(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    del state["layer4.1.bn2.weight"]
    state["conv1.weight"] = state["conv1.weight"][:, :1]
    path = tmp_path / "weights.pt"
    torch.save({"epoch": 3, "model": {"state_dict": {f"module.{name}": t for name, t in state.items()}}}, path)
    network = make(weights=str(path))
    report = network.weights_report
    assert "matched 98 of 100 tensors of the encoder" in report
    assert "not in the file: encoder.layer4.1.bn2.weight" in report
    assert "encoder.conv1.weight (64, 1, 7, 7) for (64, 3, 7, 7)" in report
    assert torch.equal(network.encoder.state_dict()["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])


def test_a_whole_network_of_other_classes_with_its_normalisation(tmp_path):
    trained = make("tu-test_convnext", "unet", num_classes=7, auxiliary=True)
    trained.scale.fill_(2.0)
    path = tmp_path / "network.safetensors"
    save_file(trained.state_dict(), path)
    network = make("tu-test_convnext", "unet", weights=str(path))
    assert "of the network" in network.weights_report
    assert "segmentation_head.weight (7, 16, 3, 3) for (3, 16, 3, 3)" in network.weights_report
    other = network.state_dict()
    same = [name for name, tensor in trained.state_dict().items() if name in other and torch.equal(tensor, other[name])]
    assert {"scale", "encoder.model.stem_0.weight", "decoder.blocks.0.conv1.0.weight"} <= set(same)


def test_the_teacher_of_a_checkpoint_is_preferred(tmp_path):
    student = make("tu-test_resnet")
    teacher = EMATeacher(student)
    for parameter in student.parameters():
        parameter.data.add_(1)
    path = tmp_path / "last.ckpt"
    state = {f"student.{k}": v for k, v in student.state_dict().items()}
    torch.save({"method": state | {f"teacher.{k}": v for k, v in teacher.state_dict().items()}}, path)
    network = make("tu-test_resnet", weights=str(path))
    assert all(map(torch.equal, network.parameters(), teacher.network.parameters()))


def test_files_that_do_not_work(tmp_path):
    def refusal(path) -> str:
        with pytest.raises(InputError) as caught:
            make("tu-test_resnet", weights=str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no file" in refusal(tmp_path / "missing.pth")
    assert "no file" in refusal(tmp_path)
    for name, content in (("junk.pth", b"junk"), ("junk.safetensors", b"junk"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read" in refusal(tmp_path / name)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pth")
    assert "cannot be read" in refusal(tmp_path / "pickled.pth")
    whole = tmp_path / "whole.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:2000])
    assert "cannot be read" in refusal(tmp_path / "cut.pth")
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    message = refusal(tmp_path / "other.pth")
    assert "other" in message
    assert "encoder has conv1.0.weight" in message


def test_paths_and_tags():
    assert is_path("a/b")
    assert is_path("weights.pth")
    assert not is_path("imagenet")
    assert not is_path("a1_in1k")
