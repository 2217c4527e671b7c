"""The stage ``cluster`` on a trained run: the same files killed or not, and maps that a run can be trained with."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evenseg.config import load_config
from evenseg.data.build import build_data
from evenseg.errors import InputError
from evenseg.stages.cluster.run import Options, cluster_run
from evenseg.training.folder import read_run

from ..distributed.launch import ranks
from ..training.helpers import train

TINY = [
    "network.architecture=linknet",
    "network.encoder=tu-test_efficientnet",
    "data.workers=0",
    "data.val_images=1",
    "data.test_images=1",
    "train.steps=1",
    "train.validate_every=1",
    "health.pictures=0",
]
OPTIONS = Options(rule="budget", budget=24, stride=4, samples=40, seed=7)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clustered")
    assert train(folder, folder / "run", *TINY) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def whole(run: Path) -> dict[str, bytes]:
    cluster_run(run, run.parent / "whole", options=OPTIONS)
    return content(run.parent / "whole")


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_maps_of_a_run(run: Path, whole: dict[str, bytes]) -> None:
    folder = run.parent / "whole"
    assert {path.split("/")[0] for path in whole} == {
        ".lock",
        "labels",
        "codebook.safetensors",
        "manifest.json",
        "report.json",
        "report.md",
        "subclasses.json",
    }
    report = json.loads(whole["report.json"])
    counts = [each["subclasses"] for each in report["classes"].values()]
    assert 20 <= sum(counts) <= 24
    assert report["disagreement"] == 0
    assert report["of_subclasses"]["balance_rate"] > report["of_classes"]["balance_rate"]
    for each in report["classes"].values():
        assert sum(each["sizes"]) == each["cells"]
    config = load_config(str(run / "config.yaml"), [f"data.subclasses={folder}"])
    splits = build_data(config.data, seed=config.seed, needs_unlabeled=False)  # looks at all of them
    assert splits.subclasses is not None
    pixels = np.zeros(sum(counts), np.int64)
    for index in range(len(splits.labeled)):
        found = splits.subclasses.read(index)
        pixels += np.bincount(found[found != 255], minlength=len(pixels))
    assert pixels.tolist() == [number for each in report["classes"].values() for number in each["pixels"]]


def test_a_finished_folder_is_left_alone_and_another_choice_refused(run: Path, whole: dict[str, bytes]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run.parent / "whole").rglob("*") if path.name != ".lock"}
    cluster_run(run, run.parent / "whole", options=OPTIONS)
    assert before == {p: p.stat().st_mtime_ns for p in (run.parent / "whole").rglob("*") if p.name != ".lock"}
    for options, key in (
        (OPTIONS._replace(budget=30), "budget"),
        (OPTIONS._replace(seed=8), "seed"),
        (OPTIONS._replace(balance="none"), "balance"),
    ):
        with pytest.raises(InputError, match=f"was made with another {key}"):
            cluster_run(run, run.parent / "whole", options=options)
    assert content(run.parent / "whole") == whole


def test_other_ways_to_divide(run: Path, tmp_path: Path) -> None:
    names = read_run(run)[1].classes.names
    said: list[str] = []
    many = OPTIONS._replace(counts={names[0]: 300}, balance="none", samples=2)
    report = cluster_run(run, tmp_path / "many", options=many, say=said.append).report
    assert [each["subclasses"] for each in report["classes"].values()] == [300, *[1] * (len(names) - 1)]
    maps = [np.array(Image.open(path)) for path in sorted((tmp_path / "many" / "labels").rglob("*.png"))]
    assert max(each.max() for each in maps) > 255  # of 16 bits
    nearest = OPTIONS._replace(mode="nearest", features="high", stride=16)
    assert cluster_run(run, tmp_path / "nearest", options=nearest).report["disagreement"] > 0
    config = load_config(str(run / "config.yaml"), [f"data.subclasses={tmp_path / 'nearest'}"])
    assert build_data(config.data, seed=config.seed, needs_unlabeled=False).subclasses is not None
    with pytest.raises(InputError, match=r"counts: there is no class 'cat'"):
        cluster_run(run, tmp_path / "none", options=OPTIONS._replace(counts={"cat": 2}))
    assert not (tmp_path / "none").exists()


def _cluster_and_die(run: Path, folder: Path, renames: int) -> None:
    """Ends by SIGKILL in the place of a rename, the file written under its temporary name."""
    done, rename = 0, os.replace

    def replace(source: Path, target: Path) -> None:
        nonlocal done
        if str(folder) in str(target):
            if done == renames:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
        rename(source, target)

    os.replace = replace
    cluster_run(run, folder, options=OPTIONS)


@pytest.mark.parametrize("renames", [0, 4, 10, 14, 17, 24, -3, -1])
def test_killed_at_any_moment_it_ends_with_the_same_files(
    run: Path, whole: dict[str, bytes], tmp_path: Path, renames: int
) -> None:
    classes = sum(each["subclasses"] > 1 for each in json.loads(whole["report.json"])["classes"].values())
    # manifest, 8 images' cells, classes, codebook, 8 times map and note, two reports and the sidecar
    total = 1 + 8 + classes + 1 + 16 + 3
    at = renames if renames >= 0 else total + renames
    process = multiprocessing.get_context("fork").Process(target=_cluster_and_die, args=(run, tmp_path / "out", at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    cluster_run(run, tmp_path / "out", options=OPTIONS)
    assert content(tmp_path / "out") == whole


@pytest.mark.slow
def test_two_processes_write_what_one_does(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    command = ["cluster", run, "--output", tmp_path / "two", "--rule", "budget", "--budget", "24"]
    ended = ranks(*command, "--stride", "4", "--samples", "40", "--seed", "7")
    assert [each.code for each in ended] == [0, 0], ended
    assert content(tmp_path / "two") == whole
