"""Recipes through the command line: the stages of a tiny run, killed, resumed, changed."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from ..training.helpers import assert_equal, checkpoint, follow_to, start, train

TINY = [
    "method=dars",
    "method.ratios=[0.4]",
    "network.architecture=linknet",
    "network.encoder=tu-test_efficientnet",
    "data.workers=0",
    "data.val_images=1",
    "data.test_images=1",
    "train.steps=3",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.validate_every=3",
    "health.pictures=1",
]
STAGES = ["round_0", "label_1", "round_1"]


def state(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    assert train(folder, folder / "run", *TINY) == 0
    return folder / "run"


def test_a_run_by_a_recipe_is_used_as_any_other(whole, cli_main):
    for name in ("config.yaml", "classes.json", "environment.json", "images.npz", "metrics.jsonl", "lists/val.txt"):
        assert (whole / name).is_file(), name
    result = json.loads((whole / "result.json").read_text())
    last = json.loads((whole / "stages" / "round_1" / "result.json").read_text())
    assert result == {**last, "recipe": "dars"}
    assert result["steps"] == 6
    assert checkpoint(whole)["progress"]["step"] == 6
    assert len((whole / "lists" / "pseudo_labeled.txt").read_text().splitlines()) == 12
    assert cli_main("evaluate", whole) == 0
    assert cli_main("compare", whole, whole) == 0
    assert cli_main("report", whole, "--output", whole.parent / "report.html") == 0


def test_a_finished_recipe_is_reported_and_left_alone(whole, capsys):
    before = state(whole)
    assert train(whole.parent, whole, *TINY) == 0
    assert "finished before" in capsys.readouterr().out
    assert state(whole) == before


@pytest.mark.parametrize("at", STAGES[1:])
def test_killed_as_a_stage_begins_it_ends_as_if_it_had_not_been(at, tmp_path, whole, capsys):
    process = start(tmp_path, tmp_path / "run", *TINY)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("stage ") and at in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stages = tmp_path / "run" / "stages"
    before = {name: state(stages / name) for name in STAGES[: STAGES.index(at)]}
    assert train(tmp_path, tmp_path / "run", *TINY) == 0
    out = capsys.readouterr().out
    for number, name in enumerate(STAGES[: STAGES.index(at)], start=1):
        assert f"stage {number}/3  {name}: finished before\n" in out
        assert state(stages / name) == before[name]
    assert_equal(checkpoint(tmp_path / "run"), checkpoint(whole))
    assert (tmp_path / "run" / "result.json").read_text() == (whole / "result.json").read_text()


def test_killed_in_the_midst_of_a_round_and_moved_it_goes_on(tmp_path, whole):
    process = start(tmp_path, tmp_path / "run", *TINY)
    follow_to(process, 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun = tmp_path / "run" / "stages" / "round_1"
    assert (begun / "config.yaml").is_file()
    assert not (begun / "result.json").exists()
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere" / "moved")
    assert train(tmp_path, moved, *TINY) == 0
    assert_equal(checkpoint(moved), checkpoint(whole))
    lists = [(each / "lists" / "pseudo_labeled.txt").read_text() for each in (moved, whole)]
    assert lists[0] == lists[1]
    assert str(tmp_path) not in lists[0]
    assert str(moved) in (moved / "stages" / "round_1" / "config.yaml").read_text()


def test_a_later_stage_may_change_and_no_earlier_one(tmp_path, capsys):
    options, run = [*TINY, "train.steps=2"], tmp_path / "run"
    indivisible = ["stages.round_1.train.labeled_batch=3", "stages.round_1.train.micro_batches=2"]
    assert train(tmp_path, run, *options, *indivisible) == 2  # before the folder of round 1 is made
    assert "stage 3/3  round_1" in capsys.readouterr().out
    first = state(run / "stages" / "round_0")
    for change, stage, key in (
        ("optim.lr=0.5", "round_0", "optim.lr"),
        ("stages.label_1.ratio=0.3", "label_1", "ratio"),
    ):
        assert train(tmp_path, run, *options, change) == 2
        err = capsys.readouterr().err
        assert f"the stage {stage} began with {key}: " in err
        assert err.count("\n") == 1
    assert train(tmp_path, run, *options, "stages.round_1.optim.lr=0.001") == 0
    assert "stage 1/3  round_0: finished before" in capsys.readouterr().out
    assert state(run / "stages" / "round_0") == first
    assert train(tmp_path, run, *options, "stages.round_1.optim.lr=0.002") == 2
    assert "the stage round_1 began with optim.lr: 0.001, not 0.002" in capsys.readouterr().err
    for name in ("label_1", "round_1"):
        shutil.rmtree(run / "stages" / name)
    options = [*options, "stages.label_1.ratio=0.2", "stages.round_1.optim.lr=0.002"]
    assert train(tmp_path, run, *options) == 0
    assert state(run / "stages" / "round_0") == first
    shutil.rmtree(run / "stages" / "label_1")
    label = json.loads((run / "stages" / "label_1.json").read_text())
    assert train(tmp_path, run, *options) == 0  # made again, it is the same
    assert json.loads((run / "stages" / "label_1.json").read_text()) == label
    shutil.rmtree(run / "stages" / "label_1")
    assert train(tmp_path, run, *options, "stages.label_1.ratio=0.3") == 2
    assert "the stage round_1 began from another outcome of round_0 and label_1" in capsys.readouterr().err


def test_other_folders_are_left_alone(tmp_path, capsys):
    plain = [*TINY, "method=supervised", "train.steps=1"]
    plain = [option for option in plain if not option.startswith("method.")]
    assert train(tmp_path, tmp_path / "plain", *plain) == 0
    assert train(tmp_path, tmp_path / "plain", *TINY) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err
