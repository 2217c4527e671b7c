"""Looks at pseudo-labels of held-out images."""

import numpy as np
import pytest
import torch

from evenseg.config import Config, override_config
from evenseg.data.classes import Classes, palette
from evenseg.data.dataset import DataSplits
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.training.alarms import Alarms
from evenseg.training.fabric import make_fabric
from evenseg.training.held_out import SHARE, HeldOut, views_due
from evenseg.types import PseudoTarget, ViewSpec

from .helpers import assert_equal, checkpoint, folder_options, make_photos, train
from .test_health import lines

PER_CLASS = ("precision", "recall", "estimate", "estimate_low", "estimate_high", "images", "pixels")
LOOKING = ["train.steps=5", "train.log_every=5", "train.validate_every=2", "train.checkpoint_every=100"]


def test_a_run_looks_at_validations(tmp_path):
    options = [*LOOKING, "method=cutmix_seg", "method.supervised_steps=2", "method.threshold=0"]
    options += ["health.views=6", "data.val_images=6", "data.size=[96,96]"]
    run = tmp_path / "run"
    assert train(tmp_path, run, *options) == 0
    records = lines(run, "holdout")
    assert [record["step"] for record in records] == [4, 5]  # none from the purely supervised steps
    for record in records:
        assert {f"per_class_{name}" for name in PER_CLASS} < record.keys()
        assert len(record["per_class_estimate"]) == 11
        assert max(record["per_class_images"].values()) == 6
        assert record["per_class_estimate"]["road"] is None  # of six images
        for name, low in record["per_class_estimate_low"].items():
            assert low is None or 0 <= low <= record["per_class_estimate_high"][name] <= 1
    assert "holdout" in (run / "metrics.csv").read_text()


@pytest.mark.parametrize("method", ["mean_teacher", "cutmix_seg", "fixmatch"])
def test_looking_changes_nothing(tmp_path, method):
    seen, unseen = tmp_path / "seen", tmp_path / "unseen"
    options = [*LOOKING, f"method={method}", "data.val_images=2"]
    assert train(tmp_path, seen, *options, "health.views=4") == 0
    assert train(tmp_path, unseen, *options, "health.views=0") == 0
    assert len(lines(seen, "holdout")) == 3
    assert lines(unseen, "holdout") == []
    assert_equal(checkpoint(seen), checkpoint(unseen))
    assert lines(seen, "train") == lines(unseen, "train")


def test_withheld_images_are_looked_at_without_val(tmp_path, capsys):
    options = [each for each in folder_options(make_photos(tmp_path)) if not each.startswith("data.val")]
    options += [*LOOKING, "method=fixmatch", "method.threshold=0", "health.views=4", "health.holdout=2"]
    run = tmp_path / "run"
    assert train(tmp_path, run, *options) == 0
    assert len((run / "lists" / "holdout.txt").read_text().splitlines()) == 2
    assert len((run / "lists" / "labeled.txt").read_text().splitlines()) == 2
    assert len(lines(run, "holdout")) == 3
    assert max(lines(run, "holdout")[0]["per_class_images"].values()) == 2
    assert train(tmp_path, run, *options) == 0  # finished before
    (run / "lists" / "holdout.txt").write_text("images/labeled/9.jpg labels/labeled/9.png\n")
    capsys.readouterr()
    assert train(tmp_path, run, *options) == 2
    assert "the holdout list has changed" in capsys.readouterr().err


@pytest.mark.parametrize("count", [4, 40])
def test_withholding_all_labeled_images_is_refused(tmp_path, capsys, count):
    options = folder_options(make_photos(tmp_path))
    assert train(tmp_path, tmp_path / "run", *options, "method=supervised", f"health.holdout={count}") == 2
    message = capsys.readouterr().err
    assert f"health.holdout: withholding {count} of 4 labeled images leaves none to train on" in message
    assert "choose at most 3" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def config_of(*overrides: str) -> Config:
    return override_config(Config(), ["train.steps=2000", "train.validate_every=50", *overrides])


@pytest.mark.parametrize("labeled", [1, 4, 8, 16])
@pytest.mark.parametrize("unlabeled", [2, 8, 32])
@pytest.mark.parametrize("every", [50, 300, 3000])
def test_looks_cost_no_more_than_their_share(labeled, unlabeled, every):
    sizes = [f"train.labeled_batch={labeled}", f"train.unlabeled_batch={unlabeled}", f"train.validate_every={every}"]
    config = config_of(*sizes)
    looks = [views_due(done, config, 100) for done in range(0, 2001, min(every, 1000)) if done % every == 0]
    if every > 2000:
        looks = [views_due(2000, config, 100)]
    passes = 1900 * (3 * labeled + 4 * unlabeled)
    assert sum(map(sum, looks)) <= SHARE * passes
    assert any(held for held, _ in looks) == (SHARE * passes >= max(16, 3 * unlabeled))
    for held, other in looks:
        assert held % unlabeled == other % unlabeled == 0
        assert (held > 0) == (other > 0)
        assert held >= other


def test_views_on_request():
    assert views_due(50, config_of("health.views=10", "train.unlabeled_batch=4"), 0) == (12, 8)
    assert views_due(50, config_of("health.views=10"), 50) == (0, 0)
    assert views_due(50, config_of("health.views=0"), 0) == (0, 0)
    assert views_due(50, config_of("health.views=10", "health.every=0"), 0) == (0, 0)


def test_alarms_leave_such_records_alone():
    assert Alarms(("a", "b"), (5, 1)).see({"step": 3, "split": "holdout", "precision": None}) == []


class Drawn:
    """Images that say in their colours what the network below is to see in them: red the class, green how surely.

    A pixel is right as often as ``accuracy`` of its confidence, from image to image more or less so.
    """

    def __init__(self, count: int, sure: float, seed: int) -> None:
        self.classes = Classes(("a", "b", "c"), palette(3))
        draw = np.random.default_rng(seed)
        self.images, self.labels = [], []
        for _ in range(count):
            seen = np.kron(draw.choice(3, (4, 4), p=[0.6, 0.3, 0.1]), np.ones((8, 8), int))
            level = (draw.random((32, 32)) < sure).astype(int)
            chance = np.array([0.6, 0.95])[level] + draw.normal(0, 0.02)
            right = draw.random((32, 32)) < chance
            other = (seen + draw.integers(1, 3, (32, 32))) % 3
            image = np.stack([80 * seen, 200 * level, 0 * seen], axis=2)
            self.images.append(image.astype(np.uint8))
            self.labels.append(np.where(right, seen, other).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def label(self, index: int) -> np.ndarray:
        return self.labels[index]

    def name(self, index: int) -> str:
        return str(index)


class Reads(Method):
    views = ViewSpec()

    def pseudo_labels(self, weak: torch.Tensor, valid: torch.Tensor, step: object) -> PseudoTarget:
        seen = (weak[:, 0] * 255 / 80).round().long()
        confidence = torch.where(weak[:, 1] > 0.5, 0.97, 0.75)
        prob = ((1 - confidence) / 2)[:, None].expand(-1, 3, -1, -1).scatter(1, seen[:, None], confidence[:, None])
        return PseudoTarget(prob, valid.float(), valid)


def test_the_estimate_is_of_the_unlabeled_images():
    """Held-out images of which the network is surer: theirs is another precision, which the estimate sees through."""
    held, unlabeled = Drawn(240, sure=0.9, seed=0), Drawn(120, sure=0.3, seed=1)
    nothing = np.zeros(3, np.int64)
    splits = DataSplits(held.classes, held, unlabeled, held, None, nothing, nothing, {}, {}, [])
    config = config_of("data.crop=[32,32]", "data.scale=[1,1]", "train.accelerator=cpu", "health.views=240")
    method = Reads(SegmentationNetwork("unet", "resnet18", num_classes=3))
    look = HeldOut(method, splits, config, make_fabric(config.train)).look(50)
    assert look is not None
    for c, name in enumerate("abc"):
        seen = np.stack([image[..., 0] for image in unlabeled.images]) // 80 == c
        truth = (np.stack(unlabeled.labels) == c)[seen].mean()
        assert look["per_class_pixels"][name] >= 1000
        assert look["per_class_images"][name] >= 10
        assert abs(look["per_class_precision"][name] - truth) > 0.15
        assert abs(look["per_class_estimate"][name] - truth) <= 0.05
