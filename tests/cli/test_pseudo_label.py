"""``evenseg pseudo-label`` as a user meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from evenseg.stages.pseudo_label import run as engine
from tests.cli.conftest import Cli, Folder, make_folder
from tests.distributed.launch import ranks

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Path]:
    """A data set and a run on it."""
    from evenseg.cli import main

    parent = tmp_path_factory.mktemp("trained")
    folder = make_folder(parent)
    assert (
        main(["train", str(folder.config), "health.holdout=2", "data.resize=[40,48]", "--output", str(parent / "run")])
        == 0
    )
    return folder, parent / "run"


def labels_of(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.array(Image.open(path)) for path in sorted((folder / "labels").rglob("*.png"))}


def test_own_images_other_images_and_probabilities(
    trained: tuple[Folder, Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = trained
    out = tmp_path / "pseudo"
    first = cli("pseudo-label", run, "--output", out, "--truth", folder.root / "labels", "--ratio", "0.5")
    assert (first.code, first.err) == (0, "")
    report = json.loads((out / "dars-0.5" / "report.json").read_text())
    labels = labels_of(out / "dars-0.5")
    assert list(labels) == ["6", "7"]
    for index, (name, each) in enumerate(report["classes"].items()):
        assert each["kept"] == sum(int((label == index).sum()) for label in labels.values())
        assert each["kept"] == min(each["quota"], each["predicted"])
        right = sum(
            int(((label == index) & (np.array(Image.open(folder.label(int(stem)))) == index)).sum())
            for stem, label in labels.items()
        )
        assert each["precision"] == (right / each["kept"] if each["kept"] else None)
        assert f"| {name} |" in first.out
    assert sum(each["quota"] for each in report["classes"].values()) == report["pixels"] // 2
    lines = (out / "dars-0.5" / "list.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["images/6.png", "images/7.png"]
    assert all(Path(line.split()[1]).is_file() for line in lines)

    again = cli("pseudo-label", run, "--output", out, "--rule", "st", "--confidence", "0.4")
    assert again.code == 0
    assert (out / "st-0.4" / "list.txt").exists()

    images = tmp_path / "photos"
    (images / "night").mkdir(parents=True)
    shutil.copy(folder.image(8), images / "night" / "a b.png")
    Image.open(folder.image(9)).resize((33, 21)).save(images / "c.jpg")
    (images / "broken.jpg").write_bytes(b"")
    other = tmp_path / "other"
    monkeypatch.setattr(engine, "DIFFERENT", 0.0)
    command = ("pseudo-label", run, "--images", images, "--output", other, "--calibration", "temperature")
    outcome = cli(*command, "--distribution", "estimated", "evaluate.mode=sliding", "evaluate.flip=true")
    assert outcome.code == 1
    assert "warning: the classes of the unlabeled images seem to be distributed otherwise" in outcome.out
    fitted = json.loads((other / "calibration.json").read_text())
    assert fitted["images"] == "holdout"
    assert fitted["temperature"] != 1.0
    assert fitted["expected_calibration_error"]["before"] > 0
    assert outcome.err == (
        f"evenseg: error: no labels: {images / 'broken.jpg'}: is empty (zero bytes); replace the file, or leave it out "
        "of the list\n"
    )
    assert {name: label.shape for name, label in labels_of(other / "dars-0.2").items()} == {
        "c": (21, 33),
        "a b": (40, 48),
    }
    assert "\t" in (other / "dars-0.2" / "list.txt").read_text()

    probs, third = tmp_path / "probs", tmp_path / "third"
    assert cli("predict", run, images / "c.jpg", "--output", probs, "--probabilities").code == 0
    files = ("--probabilities", probs / "probabilities", "--classes", run / "classes.json")
    assert cli("pseudo-label", *files, "--output", third, "--rule", "cbst", "--ratio", "1").code == 0
    whole = np.array(Image.open(probs / "labels" / "c.png"))
    assert (labels_of(third / "cbst-1")["c"] == whole).mean() > 0.99  # probabilities are stored as float16


def test_aligned_predictions(trained: tuple[Folder, Path], cli: Cli, refused: Refused, tmp_path: Path) -> None:
    folder, run = trained
    command = ("pseudo-label", run, "--images", folder.root / "images", "--rule", "crest", "--ratio", "1")
    plain, aligned = tmp_path / "plain", tmp_path / "aligned"
    assert cli(*command, "--output", plain).code == 0
    assert cli(*command, "--output", aligned, "--alignment", "1").code == 0
    assert (aligned / "mean_prediction" / "000000.json").is_file()
    stored = [json.loads((each / "manifest.json").read_text())["alignment"] for each in (plain, aligned)]
    frequency = json.loads((run / "classes.json").read_text())["class_frequency"]
    assert stored == [None, {"power": 1.0, "prior": frequency}]
    assert "another alignment" in refused(*command, "--output", aligned)
    assert "another alignment" in refused(*command, "--output", aligned, "--alignment", "0.5")
    assert "another alignment" in refused(
        *command, "--output", aligned, "--alignment", "1", "--distribution", "road=1,car=1"
    )
    assert "alignment: an estimate of the distribution" in refused(
        *command, "--output", tmp_path / "out", "--alignment", "1", "--distribution", "estimated"
    )


def test_what_is_wrong_is_one_line(trained: tuple[Folder, Path], refused: Refused, tmp_path: Path) -> None:
    folder, run = trained
    out, bare = tmp_path / "out", tmp_path / "bare"
    shutil.copytree(run, bare)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["val"], config["health"]["holdout"] = None, 0
    (bare / "config.yaml").write_text(yaml.safe_dump(config))
    assert "--output is missing" in refused("pseudo-label", run)
    assert "RUN is missing" in refused("pseudo-label", "--output", out)
    assert "is no run folder" in refused("pseudo-label", tmp_path, "--output", out)
    assert "--confidence belongs to --rule st" in refused("pseudo-label", run, "-o", out, "--confidence", "0.5")
    assert "no such file or folder" in refused("pseudo-label", run, "-o", out, "--images", tmp_path / "none")
    assert "belongs to the trained run" in refused("pseudo-label", run, "data.crop=[8,8]", "-o", out)
    assert "there is no class 'cat'" in refused("pseudo-label", run, "-o", out, "--distribution", "cat=1,road=2")
    assert "is no name=share (did you mean estimated?)" in refused(
        "pseudo-label", run, "-o", out, "--distribution", "estimate"
    )
    assert "no class has a share" in refused("pseudo-label", run, "-o", out, "--distribution", "road=0")
    assert "no such label file" in refused("pseudo-label", run, "-o", out, "--truth", tmp_path)
    for option in (("--calibration", "matrix"), ("--distribution", "estimated")):
        held_out = refused("pseudo-label", bare, "-o", out, *option)
        assert held_out.startswith(f"{option[0][2:]}: needs labeled images that were not trained on")
    assert "--ratio" in refused("pseudo-label", run, "-o", out, "--ratio", "1.5")
    assert "--classes is missing" in refused("pseudo-label", "--probabilities", folder.root, "-o", out)
    files = ("--probabilities", folder.root, "--classes", folder.root / "classes.json")
    assert "has no class_frequency" in refused("pseudo-label", *files, "-o", out)
    assert not out.exists()


def test_another_list_or_network_is_noticed(
    trained: tuple[Folder, Path], cli: Cli, refused: Refused, tmp_path: Path
) -> None:
    folder, run = trained
    out = tmp_path / "pseudo"
    command = ("pseudo-label", run, "--output", out)
    assert cli(*command, "--images", folder.image(0), "--images", folder.image(1)).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "another images" in refused(*command, "--images", folder.image(0))
    same = ("--images", folder.image(0), "--images", folder.image(1))
    assert "another network ('last_student' there" in refused(*command, *same, "--checkpoint", "best")
    assert "another protocol" in refused(*command, *same, "evaluate.flip=true")
    assert "another calibration" in refused(*command, *same, "--calibration", "matrix")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_two_processes_write_what_one_does(trained: tuple[Folder, Path], cli: Cli, tmp_path: Path) -> None:
    folder, run = trained
    command = ("pseudo-label", run, "--images", folder.root / "images", "--calibration", "histogram_binning")
    command = (*command, "--alignment", "0.5")
    assert cli(*command, "--output", tmp_path / "one").code == 0
    ended = ranks(*command, "--output", tmp_path / "two")
    assert [each.code for each in ended] == [0, 0], ended
    one, two = ({n: v.tobytes() for n, v in labels_of(tmp_path / each / "dars-0.2").items()} for each in ("one", "two"))
    assert one == two
    assert len(one) == 10
