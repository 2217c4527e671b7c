"""``evenseg export``, its stand-alone example, and ``evenseg predict`` on videos."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evenseg.cli import main
from evenseg.data.video_io import VideoReader, VideoWriter
from evenseg.export import TrainedModel, load_run
from evenseg.export.formats import FORMATS

from ..export.sharpen import sharpen
from .conftest import Cli, make_folder, plain_line
from .test_bad_input import state

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_predict.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a short run on it, whose teacher has labels that vary."""
    parent = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(parent / "cache"))
        config = make_folder(parent).config
        overrides = ["network.architecture=deeplabv3plus", "method=mean_teacher", "network.auxiliary=true"]
        assert main(["train", str(config), *overrides, "--output", str(parent / "run")]) == 0
    path = parent / "run" / "checkpoints" / "last.ckpt"
    model = load_run(parent / "run")
    sharpen(model.network, [np.array(Image.open(parent / "data" / "images" / f"{index}.png")) for index in range(4)])
    content = torch.load(path, weights_only=True)
    for name, tensor in model.network.state_dict().items():
        content["method"][f"teacher.network.{name}"].copy_(tensor)
    torch.save(content, path)
    return parent


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run, beside its data, in a folder of its own."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def label_of(path: Path) -> np.ndarray:
    with Image.open(path) as label:
        assert label.mode == "P"
        return np.array(label)


def test_onnx_and_the_example_without_evenseg(trained: Path, run: Path, cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "deep" / "model"
    outcome = cli("export", run, "--format", "onnx", "--output", out)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.onnx"]
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert "checked on 2 val images of the run: " in outcome.out
    found = re.search(r"labels as the trained network gives them: ([\d.]+) % in the worst batch\n", outcome.out)
    assert found is not None
    assert float(found[1]) >= 99.9

    described = json.loads((out / "model.json").read_text())
    assert described["names"] == ["road", "car", "sign"]
    assert described["origin"] == "last_teacher of run"
    assert described["input"]["dtype"] == "uint8"
    assert described["check"]["images"] == "2 val images of the run"

    before = state(out)
    again = cli("export", run, "--format", "safetensors", "--output", out)
    assert again.code == 2
    assert (
        plain_line(again.err) == (f"{out / 'model.onnx'}: exists already; add --overwrite, or choose another --output")
        or "model.json: exists already" in again.err
    )
    assert state(out) == before

    image = tmp_path / "street.png"  # 45x61: is padded to 48x64
    Image.fromarray(np.array(Image.open(trained / "data/images/9.png").resize((61, 45)))).save(image)
    forbidden = "import sys; sys.modules['torch'] = sys.modules['evenseg'] = None; sys.argv = sys.argv[1:]; "
    code = f"{forbidden}import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(EXAMPLE), str(out), str(image), str(tmp_path / "example.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"road: [\d.]+ % of the pixels\ncar: ", done.stdout)
    assert cli("predict", run, image, "--output", tmp_path / "predicted", "train.precision=32").code == 0
    expected = label_of(tmp_path / "predicted/labels/street.png")
    assert expected.shape == (45, 61)
    assert len(np.unique(expected)) == 3
    assert np.mean(label_of(tmp_path / "example.png") == expected) >= 0.999
    palettes = [
        Image.open(path).getpalette()[:9]
        for path in (tmp_path / "example.png", tmp_path / "predicted/labels/street.png")
    ]
    assert palettes[0] == palettes[1]


def test_safetensors_is_what_from_pretrained_reads(trained: Path, run: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "model"
    image = trained / "data/images/1.png"
    outcome = cli("export", run, "--format", "safetensors", "--network", "student", "--check", image, "--output", out)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert "checked on 1 images of --check" in outcome.out
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.json", "model.safetensors"]
    pixels = np.array(Image.open(image))
    student = load_run(run, network="student")
    label = TrainedModel.from_pretrained(out).predict(pixels)
    assert np.array_equal(label, student.predict(pixels))
    assert not np.array_equal(label, load_run(run).predict(pixels))
    described = json.loads((out / "model.json").read_text())
    assert described["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert described["preprocessing"]["std"] == [0.229, 0.224, 0.225]
    (out / "model.onnx").write_text("of an earlier export")
    (out / "README").write_text("mine")
    assert cli("export", run, "--format", "safetensors", "--output", out, "--overwrite").code == 0
    names = ["README", "config.json", "model.json", "model.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_without_the_data_synthetic_scenes_are_taken(trained: Path, run: Path, cli: Cli, tmp_path: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(trained / "data"), str(tmp_path / "gone")))
    outcome = cli("export", run, "--format", "safetensors", "--output", tmp_path / "model")
    assert outcome.code == 0, outcome
    assert "4 synthetic scenes, as the run's val and test images cannot be read" in outcome.out


def test_a_failed_check_is_an_error_with_the_figure(
    run: Path, refused: Callable[..., str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    assert cli("export", run, "--format", "safetensors", "--output", out).code == 0
    before = state(tmp_path)
    handler = FORMATS["safetensors"]

    def write_another(model: TrainedModel, folder: Path) -> None:
        with torch.no_grad():
            model.network.segmentation_head.bias[0] += 0.3
            handler.write(model, folder)
            model.network.segmentation_head.bias[0] -= 0.3

    monkeypatch.setitem(FORMATS, "safetensors", handler._replace(write=write_another))
    line = refused("export", run, "--format", "safetensors", "--output", out, "--overwrite")
    figure = re.search(r"gives ([\d.]+) % of the pixels the label .* less than 99.9 %", line)
    assert figure is not None
    assert 50 < float(figure[1]) < 99.9
    refused("export", run, "--format", "safetensors", "--output", tmp_path / "elsewhere" / "model")

    def write_damaged(model: TrainedModel, folder: Path) -> None:
        handler.write(model, folder)
        (folder / "model.safetensors").write_bytes(b"damaged")

    def fail_to_run(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: np.zeros(image.shape)[:, :, 1000]

    monkeypatch.setitem(FORMATS, "safetensors", handler._replace(write=write_damaged))
    assert "model.safetensors: damaged" in refused("export", run, "--format", "safetensors", "-o", out, "--overwrite")
    monkeypatch.setitem(FORMATS, "safetensors", handler._replace(read=fail_to_run))
    assert "index 1000 is out of bounds" in refused("export", run, "--format", "safetensors", "-o", out, "--overwrite")
    assert state(tmp_path) == before


def test_what_export_refuses(
    run: Path, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    before = state(run)
    out = tmp_path / "model"
    assert "'onx' is not one of 'onnx', 'torch-export', 'safetensors'" in refused(
        "export", run, "--format", "onx", "--output", out
    )
    assert "Missing option '--format'" in refused("export", run, "--output", out)
    assert "nowhere: is no run folder" in refused("export", "nowhere", "--format", "safetensors", "--output", out)
    command = ("export", run, "--format", "safetensors")
    assert "is a file" in refused(*command, "--output", run / "config.yaml")
    assert "cannot be written" in refused(*command, "--output", run / "config.yaml" / "model")
    assert "no.png: no such file" in refused(*command, "--check", "no.png", "--output", out)
    assert "best.ckpt: no such checkpoint" in refused(*command, "--checkpoint", "best", "--output", out)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refused("export", run, "--format", "onnx", "--output", out) == (
        "--format onnx: the package onnxruntime is not installed; run pip install 'evenseg[onnx]', "
        "or choose another format"
    )
    assert state(run) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "cache"}


def test_a_video_a_broken_one_and_images(trained: Path, run: Path, cli: Cli, tmp_path: Path) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    frames = [np.array(Image.open(trained / f"data/images/{index % 8}.png")) for index in range(11)]
    writer = VideoWriter(given / "clip.mp4", 10, 40, 48)
    for frame in frames:
        writer.write(frame)
    writer.close()
    Image.fromarray(frames[0]).save(given / "photo.png")
    (given / "broken.mp4").write_bytes((given / "clip.mp4").read_bytes()[:300])

    outcome = cli("predict", run, given, "--output", out, "train.precision=32")
    assert outcome.code == 1
    assert re.fullmatch(r"predicted 12 images in [\d.]+ s, [\d.]+ images per second\n", outcome.out)
    assert plain_line(outcome.err).startswith(
        f"1 file not predicted in full: {given / 'broken.mp4'}: cannot be read as a video"
    )
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    labels = [f"labels/clip/{index:06d}.png" for index in range(11)]
    assert names == [*labels, "labels/photo.png", "overlays/clip.mp4", "overlays/photo.jpg"]

    model, reader = load_run(run), VideoReader(given / "clip.mp4")
    for name in labels:
        frame = reader.read()
        assert frame is not None
        assert np.array_equal(label_of(out / name), model.predict(frame))

    (given / "broken.mp4").unlink()
    before = state(out)
    again = cli("predict", run, given, "--output", out)
    assert again.code == 2
    assert "labels/clip: exists already; add --overwrite" in plain_line(again.err)
    assert state(out) == before
    assert cli("predict", run, given, "--output", out, "--overwrite").code == 0
    (given / "clip").mkdir()
    shutil.copy(given / "photo.png", given / "clip" / "000000.png")
    same = cli("predict", run, given, "--output", tmp_path / "other")
    assert same.code == 2
    assert "would be written to the same place" in plain_line(same.err)
    assert not (tmp_path / "other").exists()
