"""A loss that is not finite: reported with its images, left out, the run saved and stopped or carried on."""

import json

import pytest
import torch

from .helpers import assert_equal, checkpoint, train

# Its loss is NaN at one step, where it also notes which images it saw.
POISONED = '''
import json, os
from evenseg.methods.supervised import Supervised

class Poisoned(Supervised):
    """Supervised, with a NaN at step 4."""

    def training_step(self, batch, step):
        output = super().training_step(batch, step)
        if step.index == 4 and os.environ.get("POISON") == "yes":
            open(os.environ["SEEN"], "w").write(json.dumps(batch.labeled.index.tolist()))
            output.losses["supervised"] = output.losses["supervised"] * float("nan")
        return output
'''


@pytest.fixture
def options(tmp_path, monkeypatch):
    (tmp_path / "poisoned.py").write_text(POISONED)
    monkeypatch.setenv("POISON", "yes")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    return [
        f"method={tmp_path / 'poisoned.py'}:Poisoned",
        "train.steps=9",
        "train.log_every=3",
        "train.checkpoint_every=100",
    ]


def test_the_run_stops_with_the_names_of_the_images(tmp_path, options, capsys, monkeypatch):
    run = tmp_path / "run"
    assert train(tmp_path, run, *options) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "step 4 is not finite" in message
    labeled = (run / "lists" / "labeled.txt").read_text().splitlines()
    seen = [labeled[index] for index in json.loads((tmp_path / "seen.json").read_text())]
    assert ", ".join(seen) in message
    assert "train.max_skipped" in message
    # noticed at the next logging point, saved there with finite weights, and resumed from there
    saved = checkpoint(run)
    assert saved["progress"]["step"] == 6
    assert all(torch.isfinite(value.float()).all() for value in saved["method"].values())
    assert train(tmp_path, run, *options) == 0
    assert json.loads((run / "result.json").read_text())["skipped_steps"] == 1


def test_steps_may_be_skipped(tmp_path, options, capsys, monkeypatch):
    assert train(tmp_path, tmp_path / "run", *options, "train.max_skipped=1") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "step 4: loss or gradient not finite, update left out" in captured.out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["skipped_steps"] == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["loss"] is None for line in lines if line["split"] == "train"] == [False, True, False]
    # the other steps are those of a run without the fault, but for the one update
    monkeypatch.setenv("POISON", "no")
    assert train(tmp_path, tmp_path / "clean", *options, "train.max_skipped=1") == 0
    with pytest.raises(AssertionError):
        assert_equal(checkpoint(tmp_path / "run")["method"], checkpoint(tmp_path / "clean")["method"])
