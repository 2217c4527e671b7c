"""The line of the log about the pseudo-labels."""

import json
import math

import pytest
import torch

from evenseg.training.health import health_record

from .helpers import train

PER_CLASS = ("share", "kept", "weight", "confidence", "disagreement", "precision", "recall")


def lines(run, split="health"):
    return [record for record in map(json.loads, (run / "metrics.jsonl").open()) if record["split"] == split]


def test_record_of_sums():
    sums = torch.tensor([[30.0, 10], [20, 0], [10, 0], [27, 5], [3, 1], [20, 0], [15, 0], [30, 10]])
    record = health_record(sums, ("a", "b"), torch.tensor([3, 1]))
    assert record["kept"] == 0.5
    assert record["precision"] == 0.75
    assert record["recall"] == 0.375
    assert record["per_class_share"] == {"a": 1.0, "b": 0.0}
    assert record["per_class_precision"] == {"a": 0.75, "b": None}
    # KL of the labels 3:1 from pseudo-labels that lack the second class, but for its part of the 1e-4 mixed in
    assert record["kl_divergence"] == pytest.approx(0.75 * math.log(0.75) + 0.25 * math.log(0.25 / 5e-5), rel=1e-3)
    json.dumps(record, allow_nan=False)


def test_a_run_logs_the_steps_that_were_examined(tmp_path, capsys):
    options = ["method=cutmix_seg", "train.steps=6", "train.log_every=2", "method.supervised_steps=2"]
    options += ["train.micro_batches=2", "train.unlabeled_batch=4", "method.threshold=0"]
    run, off = tmp_path / "run", tmp_path / "off"
    assert train(tmp_path, run, *options, "health.every=2") == 0
    assert "health" not in capsys.readouterr().out
    assert [record["step"] for record in lines(run)] == [4, 6]  # none from the purely supervised steps
    for record in lines(run):
        assert record.keys() >= {"kl_divergence", "kept", *(f"per_class_{name}" for name in PER_CLASS)}
        assert sum(record["per_class_share"].values()) == pytest.approx(1, abs=1e-4)
        assert 0 <= record["precision"] <= 1  # synthetic scenes know their truth
        assert 0 <= record["disagreement"] <= 1
    assert train(tmp_path, off, *options, "health.every=0") == 0
    assert lines(off) == []
    assert lines(off, "train") == lines(run, "train")


def test_a_supervised_run_has_none(tmp_path):
    assert train(tmp_path, tmp_path / "run", "method=supervised", "train.steps=2") == 0
    assert lines(tmp_path / "run") == []
