"""What is left of a plan, with costs that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evenseg.benchmark import estimate as module
from evenseg.benchmark.estimate import RunEstimate, estimate
from evenseg.benchmark.plan import load_plan
from evenseg.config import Config
from evenseg.training.probe import Cost

PLAN = """
base: small.yaml
splits: {1/4: {data.labeled: 1/4}}
folds: [0]
rows:
  supervised:
  dars: {set: {recipe.name: dars, recipe.ratios: [0.2, 0.5], stages.round_0.train.steps: 30}}
  restart: {set: {recipe.name: dars, recipe.ratios: [0.2], recipe.learning_rate: restart}}
reference: supervised
"""
SMALL = """
method: supervised
data: {dataset: synthetic, train_images: 16}
train: {steps: 100, labeled_batch: 2}
"""


@pytest.fixture
def estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step takes a second, and one with pseudo-labels three."""
    probed: list[bool] = []

    def probe(config: Config, num_classes: int) -> Cost:
        probed.append(config.data.pseudo_labeled is not None)
        seconds = 3.0 if probed[-1] else 1.0
        return Cost(seconds, seconds, 1000, 400)

    monkeypatch.setattr(module, "probe", probe)
    monkeypatch.setattr(module, "_classes", lambda config: 4)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "plan.yaml").write_text(PLAN)

    def run() -> dict[str, RunEstimate]:
        probed.clear()
        found = estimate(load_plan(tmp_path / "plan.yaml"), tmp_path / "out", None, jobs=1)
        assert len(probed) == len(set(probed))  # kinds, and not runs, are measured
        return {each.name.partition("/")[0]: each for each in found.runs}

    return run


def test_all_rounds_of_a_recipe_are_counted(estimated) -> None:
    runs = estimated()
    assert (runs["supervised"].steps, runs["supervised"].seconds, runs["supervised"].disk) == (100, 100, 1400)
    # steps are counted on from round to round: 30, 130 and 230
    assert (runs["dars"].steps, runs["dars"].seconds, runs["dars"].disk) == (230, 30 + 2 * 100 * 3, 3 * 1400)
    assert (runs["restart"].steps, runs["restart"].seconds, runs["restart"].disk) == (200, 100 + 300, 2 * 1400)


def test_what_is_trained_of_each_round_is_left_out(estimated, tmp_path: Path) -> None:
    name = estimated()["dars"].name
    for stage, step in (("round_0", 30), ("round_1", 90)):
        log = tmp_path / "out" / name / "stages" / stage / "metrics.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({"step": step, "split": "train"}) + "\n")
    left = estimated()["dars"]
    assert (left.steps, left.seconds) == (40 + 100, 3 * (40 + 100))
