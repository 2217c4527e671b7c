"""What a plan file stands for, and what is wrong with it."""

from pathlib import Path

import pytest

from evenseg.benchmark.plan import load_plan
from evenseg.errors import InputError

PLAN = """
base: synthetic
set: {train.steps: 30}
splits:
  1/8: {data.labeled: 1/8}
  lists: {data.labeled: "splits/seed{fold}/labeled.txt"}
folds: [0, 2]
seeds: [0, 1]
rows:
  supervised: {set: {method: supervised}}
  cutmix_seg:
  fixmatch: {config: camvid_fixmatch, set: {method.threshold: 0.8, train.steps: 40}}
reference: supervised
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_every_row_split_fold_and_seed_is_a_run(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, PLAN), ["data.root=/elsewhere"])
    assert len({run.name for run in plan.runs}) == len(plan.runs) == 3 * 2 * 2 * 2
    assert plan.reference == "supervised"
    by_name = {run.name: run for run in plan.runs}
    run = by_name["fixmatch/lists-fold2-seed1"]
    assert run.config.data.labeled == "splits/seed2/labeled.txt"
    assert (run.config.data.fold, run.config.seed, run.config.train.steps) == (2, 1, 40)
    assert run.config.method_arguments["threshold"] == 0.8
    assert run.config.method_arguments["supervised_loss"] == "class_weighted"  # of its own config
    assert (run.config.data.root, run.kept.data.root) == ("/elsewhere", "camvid")
    assert by_name["supervised/1_8-fold0-seed0"].config.method == "supervised"
    assert by_name["cutmix_seg/1_8-fold0-seed0"].config.train.steps == 30


def test_whole_folds_come_before_further_ones(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, PLAN))
    assert [run.row for run in plan.runs[:3]] == ["supervised", "cutmix_seg", "fixmatch"]


def test_a_config_beside_the_plan_wins_over_a_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "synthetic").write_text("train: {steps: 7}\n")
    plan = load_plan(write(tmp_path, "base: synthetic\nrows: {only: }\n"))
    assert plan.runs[0].config.train.steps == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {a: }", "base"),
        ("base: synthetic", "rows"),
        ("base: synthetic\nrows: {a: }\nfoldz: [0]", "foldz is no key of a plan .did you mean folds"),
        ("base: synthetic\nrows: {a: {sett: {}}}", "sett is no key of a plan .did you mean set"),
        ("base: synthetic\nrows: {a: }\nreference: b", "there is no row 'b'"),
        ("base: synthetic\nrows: {a: {set: {train.stepz: 3}}}", "row a, split all: train.stepz is no key"),
        ("base: synthetic\nrows: {a: {set: {method.threshhold: 3}}}", "row a, split all: .*threshold"),
        ("base: nowhere\nrows: {a: }", "row a, split all: nowhere is neither a file nor a packaged"),
        ("base: synthetic\nrows: {a b: }", "cannot name a folder"),
        ("base: synthetic\nrows: {a: }\nsequence: 'seq'", "needs one group"),
        ("base: synthetic\nrows: {a: }\nsequence: '('", "is no pattern"),
        ("base: synthetic\nrows: {a: }\nfolds: [-1]", "folds.0"),
        ("[1, 2]", "a plan is a mapping"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_plan(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_plan(tmp_path / "none.yaml")
