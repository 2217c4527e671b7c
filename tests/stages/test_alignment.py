"""Aligned predictions against all probabilities at once; killed, resumed and in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evenseg.functional.calibration import Temperature
from evenseg.stages.pseudo_label import shards
from evenseg.stages.pseudo_label.alignment import FOLDER, align
from evenseg.stages.pseudo_label.label import Labeling
from evenseg.stages.pseudo_label.rules import Rule
from tests.stages.fakes import FakeNetwork, classes, images, label_all

PRIOR = torch.tensor([10, 20, 30, 40])
COUNT = 2 * shards.IMAGES + 3


def labeling(folder: Path) -> Labeling:
    return Labeling(folder, images(COUNT), classes(len(PRIOR)))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("warm", [False, True])
def test_predictions_are_shifted_by_their_mean(power: float, warm: bool, tmp_path: Path) -> None:
    network, calibrate = FakeNetwork(4, "sure"), Temperature(3.0) if warm else None
    outcomes = [network.outcome(number)[0].double() / (3 if warm else 1) for number in range(COUNT)]
    prob = torch.cat([each.softmax(0).flatten(1) for each in outcomes], dim=1)
    target = (PRIOR / 100).pow(power)
    aligned = prob * ((target / target.sum() + 1e-6) / (prob.mean(dim=1) + 1e-6))[:, None]
    value, label = (aligned / aligned.sum(dim=0)).max(dim=0)

    made = labeling(tmp_path)
    made.predict(network, align(made, network, calibrate, PRIOR, power=power))
    stored = [each for shard in range(len(made.shards)) for _, each in made.shards.read(shard)]
    assert np.array_equal(np.concatenate([each.label.ravel() for each in stored]), label.numpy())
    confidence = np.concatenate([each.code.view(np.float16).ravel() for each in stored])
    assert np.abs(confidence - value.numpy()).max() < 1e-3
    assert network.calls == list(range(COUNT)) * 2


def test_a_mean_goes_on_after_its_last_shard_and_does_not_depend_on_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = FakeNetwork(4, broken=(5,))
    logits = torch.zeros(1, 4, 1, 1)
    whole = align(labeling(tmp_path), network, None, PRIOR, power=1.0)(logits)
    (tmp_path / FOLDER / "000001.json").unlink()
    network.calls.clear()
    assert torch.equal(align(labeling(tmp_path), network, None, PRIOR, power=1.0)(logits), whole)
    assert network.calls == list(range(shards.IMAGES, 2 * shards.IMAGES))
    monkeypatch.setattr(shards, "IMAGES", 3)
    assert torch.equal(align(labeling(tmp_path / "parts"), network, None, PRIOR, power=1.0)(logits), whole)


def test_without_an_image_nothing_fails(tmp_path: Path) -> None:
    empty = Labeling(tmp_path, images(0), classes(4))
    assert align(empty, FakeNetwork(4), None, PRIOR, power=1.0)(torch.zeros(1, 4, 1, 1)).isfinite().all()


def test_crest_plus_labels_more_of_what_is_predicted_too_rarely(tmp_path: Path) -> None:
    """A class that the network hardly ever says, and the labels have often."""
    network, prior = FakeNetwork(4), torch.tensor([100, 100, 1, 800])
    plain = label_all(tmp_path / "plain", Rule("crest", 1.0), prior, network=network).report
    made = Labeling(tmp_path / "aligned", images(40), classes(4))
    histogram = made.predict(network, align(made, network, None, prior, power=1.0))
    shifted = made.select(histogram, Rule("crest", 1.0), prior, name="labels", seed=0).report
    before, after = (each["classes"]["class 3"]["predicted"] for each in (plain, shifted))
    assert after > 2 * before
