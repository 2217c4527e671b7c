"""Vectors that a method logs, a figure for each class, end in the log by class name."""

import json

import pytest

from .helpers import train

METHOD = """
import torch

from evenseg.methods.supervised import Supervised
from evenseg.types import StepOutput


class Banked(Supervised):
    def training_step(self, batch, step):
        losses, log, seen = super().training_step(batch, step)
        bank = torch.arange(self.student.num_classes) / 10 + step.index
        return StepOutput(losses, {**log, "bank": bank}, seen)
"""


def test_means_over_steps_by_class_name(tmp_path):
    path = tmp_path / "banked.py"
    path.write_text(METHOD)
    run = tmp_path / "run"
    assert train(tmp_path, run, f"method={path}:Banked", "train.steps=4", "train.log_every=2") == 0
    names = json.loads((run / "classes.json").read_text())["names"]
    records = [record for record in map(json.loads, (run / "metrics.jsonl").open()) if record["split"] == "train"]
    assert [record["step"] for record in records] == [2, 4]
    for record, mean in zip(records, (0.5, 2.5), strict=True):
        assert list(record["per_class_bank"]) == names
        assert list(record["per_class_bank"].values()) == pytest.approx([mean + c / 10 for c in range(len(names))])
        assert "bank" not in record
