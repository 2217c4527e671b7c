"""``evenseg cluster`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Folder, make_folder

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Path]:
    """A data set and a run on it."""
    from evenseg.cli import main

    parent = tmp_path_factory.mktemp("to_cluster")
    folder = make_folder(parent)
    assert main(["train", str(folder.config), "data.resize=[40,48]", "--output", str(parent / "run")]) == 0
    return folder, parent / "run"


def test_maps_that_a_run_is_trained_with(trained: tuple[Folder, Path], cli: Cli, tmp_path: Path) -> None:
    folder, run = trained
    out = tmp_path / "subclasses"
    done = cli("cluster", run, "--output", out, "--counts", "road=3", "--stride", "4")
    assert (done.code, done.err) == (0, "")
    assert (out / "report.md").read_text().rstrip() in done.out
    assert done.out.endswith(f"{out}: maps of subclasses, as data.subclasses takes them\n")
    report = json.loads((out / "report.json").read_text())
    assert [each["subclasses"] for each in report["classes"].values()] == [3, 1, 1]
    train = ("train", folder.config, "data.resize=[40,48]", f"data.subclasses={out}", "data.cache=true")
    assert cli(*train, "--output", tmp_path / "second").code == 0
    described = json.loads((tmp_path / "second" / "classes.json").read_text())
    assert described["subclass_counts"] == [3, 1, 1]


def test_what_is_wrong_is_one_line(trained: tuple[Folder, Path], refused: Refused, cli: Cli, tmp_path: Path) -> None:
    folder, run = trained
    out, fine = tmp_path / "out", ("cluster", run, "--output", tmp_path / "out")
    assert "--output is missing" in refused("cluster", run)
    assert "is no run folder" in refused("cluster", tmp_path, "--output", out)
    assert "belongs to the trained run" in refused(*fine, "data.crop=[8,8]")
    assert "--counts: 'raod' is no name=K; give road=42,car=8" in refused(*fine, "--counts", "raod,car=2")
    assert "--counts: 'two' is no whole number" in refused(*fine, "--counts", "two,3")
    assert "--counts: road is there twice" in refused(*fine, "--counts", "road=2,road=3")
    assert "counts: there is no class 'raod' (did you mean road?)" in refused(*fine, "--counts", "raod=2")
    assert "counts: lists 2 numbers for 3 classes" in refused(*fine, "--counts", "2,2")
    assert "budget: 2 subclasses are fewer than the 3 classes" in refused(*fine, "--budget", "2")
    assert "--stride" in refused(*fine, "--stride", "0")
    assert "data.root" in refused(*fine, f"data.root={tmp_path / 'nowhere'}")
    assert not out.exists()
    assert "counts: road has " in refused(*fine, "--counts", "road=100000")
    assert "another counts" in refused(*fine, "--counts", "road=2")

    other = ("train", folder.config, f"data.subclasses={out}", "--output", tmp_path / "run")
    assert "subclasses.json: no such file; give the --output of evenseg cluster" in refused(*other)
    assert cli("cluster", run, "--output", tmp_path / "good", "--budget", "9").code == 0
    assert "the maps are of data.resize=[40, 48], and the run has null" in refused(
        "train", folder.config, f"data.subclasses={tmp_path / 'good'}", "--output", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()
