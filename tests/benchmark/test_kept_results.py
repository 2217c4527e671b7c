"""The results behind published figures still belong to the plans and configurations they were made with."""

import json
from pathlib import Path

import pytest

from evenseg.benchmark.finished import state_of
from evenseg.benchmark.plan import load_plan
from evenseg.metrics.image_counts import mean_iou
from evenseg.training.image_scores import read_image_scores

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PLANS = sorted(BENCHMARKS.glob("*.yaml"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_kept_result_counts_as_finished(path: Path, tmp_path: Path) -> None:
    kept = BENCHMARKS / "results" / path.stem
    states = {spec.name: state_of(spec, tmp_path, kept)[0] for spec in load_plan(path).runs}
    stored = {str(result.parent.relative_to(kept)) for result in kept.rglob("result.json")}
    assert stored
    assert stored == {name for name, state in states.items() if state == "kept"}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_counts_of_the_images_give_the_figures(path: Path) -> None:
    for result in (BENCHMARKS / "results" / path.stem).rglob("result.json"):
        scores = read_image_scores(result.parent)
        assert scores is not None
        miou = json.loads(result.read_text(encoding="utf-8"))["miou"]
        # counted again from the checkpoint; bf16 rounds otherwise in another grouping of the images
        assert float(mean_iou(scores.counts.sum(dim=0))) == pytest.approx(miou, abs=2e-4)
