"""What the verbs print and leave behind when nothing is wrong."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import evenseg
from evenseg import registry
from evenseg.cli.train import default_output
from evenseg.config import load_config, packaged_configs

from .conftest import Cli, Folder

VERBS = ["train", "evaluate", "predict", "pseudo-label", "export", "list", "describe", "data"]


def test_without_arguments_the_help_is_shown(cli: Cli) -> None:
    outcome = cli()
    assert outcome.code == 0
    assert outcome == cli("--help") == cli("-h")
    for verb in VERBS:
        assert re.search(rf"^  {verb}\s+[A-Z].*[.]$", outcome.out, flags=re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_examples(verb: str, cli: Cli) -> None:
    outcome = cli(verb, "--help")
    assert outcome.code == 0
    examples = re.findall(rf"^  evenseg {verb}( .*)?$", outcome.out, flags=re.MULTILINE)
    assert len(examples) >= 2


@pytest.mark.parametrize("verb", VERBS)
def test_examples_use_options_that_exist(verb: str, cli: Cli) -> None:
    text = cli(verb, "--help").out
    used = {
        option
        for line in text.splitlines()
        if line.startswith("  evenseg ")
        for option in re.findall(r"--[a-z-]+", line)
    }
    described = set(re.findall(r"--[a-z-]+", text.partition("Options:")[2]))
    assert used <= described


def test_the_version(cli: Cli) -> None:
    assert cli("--version").out == f"evenseg {evenseg.__version__}\n"


def test_as_a_module_and_without_importing_torch() -> None:
    done = subprocess.run([sys.executable, "-m", "evenseg", "list", "methods"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("supervised ")
    assert done.stderr == ""
    code = """if True:
        import sys
        from evenseg.cli import main
        assert [main(["--help"]), main(["list"]), main(["train", "nothing"])] == [0, 0, 2]
        assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_bad_usage_in_a_process_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-m", "evenseg", "train", "--foo"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "evenseg: error: No such option: --foo; see `evenseg train --help`\n"
    assert done.stdout == ""


def test_a_reader_that_goes_away_is_told_nothing() -> None:
    code = "from evenseg.cli import main; import sys; sys.exit(main(['list']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_the_installed_program_is_this_one() -> None:
    try:
        entries = importlib.metadata.distribution("evenseg").entry_points
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("evenseg is not installed")
    assert [entry.load() for entry in entries if entry.name == "evenseg"] == [evenseg.cli.main]


def test_list_shows_names_a_line_each(cli: Cli) -> None:
    overview = cli("list").out
    for name in ("cutmix_seg", "threshold", "classmix", "ohem", "synthetic", *packaged_configs()):
        assert re.search(rf"^  {name}\b", overview, flags=re.MULTILINE)
    assert cli("list", "losses", "fo*").out.split()[0] == "focal"
    assert {"unet", "deeplabv2", "deeplabv3plus"} <= set(cli("list", "architectures").out.split())
    encoders = cli("list", "encoders", "resnet18").out.split()
    assert "resnet18" in encoders
    assert "tu-resnet18" in encoders
    assert all("resnet18" in name for name in encoders)


def test_any_config_trains_on_synthetic_scenes_in_crops_of_their_size(folder: Folder, cli: Cli, tmp_path: Path) -> None:
    folder.config.write_text(folder.config.read_text().replace("  crop: [32, 32]\n", ""))
    run = tmp_path / "run"
    scenes = ("data.dataset=synthetic", "data.labeled=4", "data.train_images=8", "data.val_images=2")
    command = ("train", folder.config, *scenes, "data.size=[40, 56]", "data.test_images=2", "--output", run)
    assert cli(*command).code == 0
    assert "crop: [40, 56]" in (run / "config.yaml").read_text()
    assert "finished before" in cli(*command).out


def test_describe_tells_paper_and_arguments(cli: Cli) -> None:
    text = cli("describe", "fixmatch").out
    assert text.startswith("fixmatch (method): ")
    assert "arxiv.org/abs/2001.07685" in text
    assert re.search(r"^threshold +0\.95 +a number from 0 to 1 +confidence", text, flags=re.MULTILINE)
    assert "network" not in re.findall(r"^\w+", text, flags=re.MULTILINE)
    assert "It takes no arguments." in cli("describe", "none").out


def test_describe_shows_presets_as_arguments_that_can_be_given(cli: Cli) -> None:
    (shown,) = re.findall(r"^preset official: (.*)$", cli("describe", "fixmatch").out, flags=re.MULTILINE)
    by_preset = registry.check_spec("method", {"name": "fixmatch", "preset": "official"})
    assert registry.check_spec("method", {"name": "fixmatch", **yaml.safe_load(shown)}) == by_preset


def test_ctrl_c_ends_without_a_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evenseg.cli.catalog.print_table", interrupt)
    outcome = cli("describe", "fixmatch")
    assert outcome.code == 130
    assert outcome.err == ""


def test_the_default_run_folder_tells_config_and_method() -> None:
    config = load_config("/dev/null", ["method=fixmatch"])
    assert default_output("some/where/camvid.yaml", config) == Path("runs/camvid-fixmatch")
    assert default_output("camvid_fixmatch", config) == Path("runs/camvid_fixmatch")
    assert default_output("a.yaml", load_config("/dev/null", ["method=mine.py:Mine"])) == Path("runs/a-Mine")


def test_train_evaluate_predict(folder: Folder, cli: Cli, tmp_path: Path) -> None:
    run, scores, out = tmp_path / "run", tmp_path / "scores.json", tmp_path / "out"
    command = ("train", folder.config, "method.ema_decay=0.9", "--output", run)
    first = cli(*command)
    assert (first.code, first.err) == (0, "")
    again = cli(*command)
    assert (again.code, again.err) == (0, "")
    assert "finished before" in again.out

    scored = cli("evaluate", run, "--network", "student", "evaluate.flip=true", "--output", scores)
    assert (scored.code, scored.err) == (0, "")
    result = json.loads(scores.read_text())
    assert result["network"] == "last_student"
    assert list(result["per_class_iou"]) == ["road", "car", "sign"]
    for name, iou in result["per_class_iou"].items():
        assert re.search(rf"^{name} .*\b{100 * iou:.2f} ", scored.out, flags=re.MULTILINE)
    assert re.search(rf"^mIoU +{100 * result['miou']:.2f} %$", scored.out, flags=re.MULTILINE)
    plain = cli("evaluate", run)
    assert plain.code == 0
    assert "last_teacher on 2 images of val" in plain.out
    assert cli("evaluate", run, "--output", scores, "--overwrite").code == 0
    assert json.loads(scores.read_text())["network"] == "last_teacher"
    assert json.loads(scores.read_text())["miou"] == json.loads((run / "result.json").read_text())["miou"]

    broken = folder.root / "images" / "broken.png"
    broken.write_bytes(folder.image(7).read_bytes()[:200])
    predicted = cli("predict", run, folder.root / "images", "--output", out, "--no-overlay", "--probabilities")
    assert predicted.code == 1
    assert predicted.err.startswith("evenseg: error: 1 image not predicted: ")
    assert str(broken) in predicted.err
    assert predicted.err.count("\n") == 1
    labels = sorted((out / "labels").rglob("*.png"))
    assert [path.name for path in labels] == [f"{index}.png" for index in range(10)]
    assert len(list((out / "probabilities").rglob("*.npz"))) == 10
    assert not list(out.rglob("*.jpg"))
    with Image.open(labels[0]) as label:
        assert label.mode == "P"
        assert label.size == (48, 40)
        assert np.array(label).max() <= 2
    assert cli("predict", run, folder.image(8), "--output", tmp_path / "one", "evaluate.mode=sliding").code == 0
    again = cli("predict", run, folder.root / "images", "--output", out)
    assert again.code == 2
    assert f"{labels[0]}: exists already; add --overwrite" in again.err
    broken.unlink()
    assert cli("predict", run, folder.root / "images", "--output", out, "--overwrite").code == 0
    assert len(list((out / "overlays").rglob("*.jpg"))) == 10
