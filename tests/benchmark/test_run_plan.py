"""A plan through the command line: killed, finished, with a row that fails, a row that has changed, results kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evenseg.benchmark.pool import Pool
from evenseg.cli import main

PLAN = """
base: small.yaml
splits: {1/4: {data.labeled: 1/4}}
folds: [0]
rows:
  supervised:
  broken: {set: {optim.lr: 1.0e+30}}
  mean_teacher: {set: {method: mean_teacher}}
reference: supervised
"""
SMALL = """
method: supervised
network: {architecture: unet, encoder: resnet18}
data: {dataset: synthetic, size: [48, 64], crop: [48, 48], train_images: 16, val_images: 2, test_images: 12, workers: 0}
train: {steps: 6, labeled_batch: 2, unlabeled_batch: 2, log_every: 1, checkpoint_every: 2, validate_every: 6,
        accelerator: cpu}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def run(plan: Path, output: Path, *options: str) -> int:
    return main(["benchmark", str(plan), "--output", str(output), *options])


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or os.name != "posix", reason="needs signals")
def test_a_plan_is_stopped_finished_and_kept(plan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output, kept = tmp_path / "out", tmp_path / "kept"
    # stopped while the first row trains: what is trained so far is saved, the rest waits
    process = subprocess.Popen(
        [sys.executable, "-m", "evenseg", "benchmark", str(plan), "--output", str(output)],
        stdout=subprocess.PIPE,
        text=True,
    )
    log = output / "supervised" / "1_4-fold0-seed0" / "metrics.jsonl"
    while not log.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, text
    assert "the same command goes on" in text
    assert not (output / "mean_teacher").exists()

    # the same command goes on; the row that cannot work fails alone
    assert run(plan, output, "--keep", "--results", str(kept)) == 1
    text = capfd.readouterr().out
    assert "failed: broken/1_4-fold0-seed0: " in text
    assert "not finite" in text
    result = json.loads((output / "mean_teacher" / "1_4-fold0-seed0" / "result.json").read_text())
    assert result["steps"] == 6
    table = (output / "table.md").read_text()
    assert "| mean_teacher | 1/4 | 1 |" in table
    assert "minus supervised" in table
    assert "| mean_teacher,1/4" not in table
    assert (output / "classes.csv").read_text().startswith("row,split,")
    assert not (kept / "broken").exists()

    # the figures hold without the runs, on another machine
    moved = tmp_path / "elsewhere"
    plan.write_text(PLAN.replace("  broken: {set: {optim.lr: 1.0e+30}}\n", ""))
    assert run(plan, moved, "--results", str(kept)) == 0
    assert (moved / "differences.csv").read_text() == (output / "differences.csv").read_text()
    assert not (moved / "supervised").exists()

    capfd.readouterr()
    assert run(plan, tmp_path / "nowhere", "--results", str(kept), "--tables") == 0
    text = capfd.readouterr().out
    assert all(line in text for line in ("mean_teacher", "minus supervised", "pedestrian"))
    assert not (tmp_path / "nowhere").exists()

    # a row that means something else by now is noticed and left alone
    plan.write_text(plan.read_text().replace("supervised:", "supervised: {set: {optim.lr: 0.5}}"))
    assert run(plan, output) == 1
    assert "optim.lr: 0.01 there, 0.5 here" in capfd.readouterr().out


def test_dry_run_trains_nothing(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert run(plan, output, "--dry-run") == 0
    text = capsys.readouterr().out
    for row in ("supervised", "broken", "mean_teacher"):
        assert f"{row}/1_4-fold0-seed0" in text
    assert "in all, 1 at a time" in text
    assert not output.exists()


def test_absent_data_are_named_before_anything_starts(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    (tmp_path / "small.yaml").write_text(SMALL.replace("dataset: synthetic", "dataset: folder, root: nowhere/photos"))
    assert run(plan, output) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        f"{plan}: supervised/1_4-fold0-seed0: data.root: nowhere/photos does not exist; set it to the folder" in error
    )
    assert not output.exists()
    assert run(plan, output, "--tables") == 0
    assert "no run of this plan is finished" in capsys.readouterr().out

    # one row with its data, or a run that waits for nothing: no refusal
    trained: list[str] = []

    def pretend(pool: Pool, watch: object) -> list[object]:
        trained.extend(spec.name for spec in pool.waiting)
        return []

    monkeypatch.setattr(Pool, "run", pretend)
    text = PLAN.replace("broken: {set: {optim.lr: 1.0e+30}}", "there: {set: {data.root: .}}")
    plan.write_text(
        text.replace("mean_teacher: {", "synthetic: {").replace("method: mean_teacher", "data.dataset: synthetic")
    )
    assert run(plan, output) == 0
    assert [name.split("/")[0] for name in trained] == ["supervised", "there", "synthetic"]


def test_kept_results_need_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    plan = tmp_path / "camvid.yaml"
    plan.write_text((benchmarks / "camvid.yaml").read_text().replace("folds: [0, 1]", "folds: [0]"))  # all kept
    (tmp_path / "results").symlink_to(benchmarks / "results")
    assert run(plan, tmp_path / "out", "data.root=nowhere") == 0
    assert "fixmatch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("foo=1", "foo is no key; there are method, network, data,"),
        ("train.stepz=3", "train.stepz is no key (did you mean train.steps?)"),
        ("method.threshold=2", "method.threshold is no argument of Supervised"),
        ("data.root", "'data.root' is no override; write key=value"),
    ],
)
@pytest.mark.parametrize("mode", [["--tables"], ["--dry-run"], []])
def test_faults_of_the_command_line_are_not_the_plans(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, expected: str, mode: list[str]
) -> None:
    assert run(plan, tmp_path / "out", override, *mode) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"evenseg: error: {expected}")
    assert "row supervised, split 1/4 cannot take this" in error
    assert not (tmp_path / "out").exists()


def test_faults_are_one_line(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text("base: small.yaml\nrows: {a: {set: {train.stepz: 3}}}\n")
    assert run(plan, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "row a" in error
    assert not (tmp_path / "out").exists()
