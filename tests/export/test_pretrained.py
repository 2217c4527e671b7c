"""Models as folders, and to the hub and back without a network connection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evenseg.data.classes import Classes, palette
from evenseg.errors import InputError
from evenseg.export import TrainedModel
from evenseg.inference import make_protocol
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.prototypes import PrototypeOptions

from .sharpen import random_model, scenes


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return random_model("unet", "resnet18")._replace(resize=(64, 96), origin="last_teacher of first")


@pytest.fixture
def folder(model: TrainedModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(model: TrainedModel, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    again = TrainedModel.from_pretrained(folder)
    assert again[1:] == model[1:]
    assert not again.network.training
    image = scenes(1, (75, 110))[0]
    label = again.predict(image)
    assert label.shape == (75, 110)
    assert len(np.unique(label)) > 1
    assert np.array_equal(label, model.predict(image))
    sliding = make_protocol(mode="sliding", window=(32, 32))
    assert np.array_equal(again.predict(image, sliding), model.predict(image, sliding))
    assert not np.array_equal(again.predict(image, sliding), label)


@pytest.mark.parametrize("options", [{"norm": "group"}, {"output_stride": 8}, {"auxiliary": True}])
def test_options_of_the_network(options: dict[str, object], tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SegmentationNetwork("deeplabv3plus", "resnet18", num_classes=5, **options)
    network.add_head("projection", torch.nn.Conv2d(network.channels["decoder"], 8, 1))
    network.scale.mul_(2)  # the normalisation is that of the weights, not of the encoder's name
    network.to(memory_format=torch.channels_last)
    classes = Classes(("a", "b", "c", "d", "e"), palette(5))
    TrainedModel(network.eval(), classes).save_pretrained(tmp_path)
    again = TrainedModel.from_pretrained(tmp_path).network
    assert not any(name.startswith(("heads", "auxiliary")) for name in load_file(tmp_path / "model.safetensors"))
    image = torch.rand(1, 3, 64, 70)
    with torch.no_grad():
        assert torch.allclose(again(image).logits, network(image).logits, rtol=0, atol=1e-5)


def test_prototypes_come_along(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SegmentationNetwork("unet", "resnet18", num_classes=5)
    options = PrototypeOptions(dimension=8, temperature=0.3, projection="mlp", logit_norm="layernorm")
    network.use_prototypes(options, torch.tensor([1, 2, 0, 4, 5])).bank.begin("simplex")
    classes = Classes(("a", "b", "c", "d", "e"), palette(5))
    TrainedModel(network.eval(), classes).save_pretrained(tmp_path)
    again = TrainedModel.from_pretrained(tmp_path).network
    image = torch.rand(1, 3, 64, 70)
    with torch.no_grad():
        assert torch.allclose(again(image).logits, network(image).logits, rtol=0, atol=1e-5)
        assert (again(image).logits[:, 2] < -1000).all()


def test_images_of_another_kind_are_refused(model: TrainedModel) -> None:
    for image in (np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with pytest.raises(ValueError, match=r"need \(H, W, 3\) uint8"):
            model.predict(image)


def spoil_config(**changes: object) -> object:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **changes}))

    return spoil


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def pickled(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")


def one_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["scale"]
    save_file(weights, folder / "model.safetensors")


FAULTS = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
    "no json": (lambda folder: (folder / "config.json").write_text("{"), "config.json: is not that of a model"),
    "format": (spoil_config(format=2), "config.json: is not that of a model (format: "),
    "key": (spoil_config(network={"architectur": "unet"}), "network.architectur: "),
    "architecture": (spoil_config(network={"architecture": "unett"}), "there is no 'unett'"),
    "classes": (spoil_config(names=["a", "b"]), "`colors` has to list 2 colours"),
    "other network": (spoil_config(network={"architecture": "fpn", "encoder": "resnet18"}), "not the weights of"),
    "cut": (cut, "model.safetensors: damaged"),
    "pickle": (pickled, "model.safetensors: damaged"),
    "missing": (one_missing, "model.safetensors: damaged, or not the weights of"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_one_line(name: str, folder: Path) -> None:
    spoil, expected = FAULTS[name]
    spoil(folder)
    with pytest.raises(InputError) as error:
        TrainedModel.from_pretrained(folder)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_to_the_hub_and_back(model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands in for the hub."""
    hub = tmp_path / "hub"

    class Api:
        def __init__(self, token: str | None) -> None:
            assert token == "secret"

        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            assert (private, exist_ok) == (True, True)
            (hub / repository).mkdir(parents=True, exist_ok=True)

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            shutil.copytree(folder_path, hub / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}/commit/1"

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        assert allow_patterns == ["config.json", "model.safetensors"]
        if not (hub / repository).is_dir():
            raise FileNotFoundError("404: no such repository\nmore")
        return str(hub / repository)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert model.push_to_hub("me/streets", private=True, token="secret") == "https://hub/me/streets/commit/1"
    assert sorted(path.name for path in (hub / "me/streets").iterdir()) == ["config.json", "model.safetensors"]
    image = scenes(1)[0]
    assert np.array_equal(TrainedModel.from_pretrained("me/streets").predict(image), model.predict(image))
    with pytest.raises(InputError, match=r"me/other: no such folder, and not to be had .*404: no such repository\)"):
        TrainedModel.from_pretrained("me/other")
    with pytest.raises(InputError, match="no/such/folder: no such folder; give one that"):
        TrainedModel.from_pretrained("no/such/folder")


def test_a_hub_that_refuses(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("401 Unauthorized\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: SimpleNamespace(create_repo=refuse))
    with pytest.raises(InputError, match=r"me/streets: cannot be uploaded \(401 Unauthorized\); check the name"):
        model.push_to_hub("me/streets")


def test_a_folder_that_cannot_be_written(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file")
