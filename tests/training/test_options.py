"""Switches of the training loop, each seen to do what it says."""

import json

import pytest
import torch

from .helpers import assert_equal, checkpoint, folder_options, make_photos, train

NO_PADDING = ["data.scale=[1.0]", "data.rotation=0"]


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def test_micro_batches_give_the_same_losses(tmp_path):
    """Without padding and threshold each micro-batch is normalised by the same count."""
    options = [
        "method.name=cutmix_seg",
        "method.weighting=none",
        "network.norm=group",
        "train.steps=3",
        "train.labeled_batch=4",
        "train.unlabeled_batch=4",
        "train.precision=32",
        "optim.lr=0.001",
        *NO_PADDING,
    ]
    assert train(tmp_path, tmp_path / "one", *options) == 0
    assert train(tmp_path, tmp_path / "two", *options, "train.micro_batches=2") == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_batches_that_do_not_divide_are_refused(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(tmp_path, run, "method=cutmix_seg", "train.unlabeled_batch=6", "train.micro_batches=2") == 2
    assert "multiple of 4" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize("method", ["supervised", "c3"])
def test_statistics_are_kept_apart_only_where_there_are_passes_to_keep_apart(method, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(tmp_path, run, f"method={method}", "network.strong_statistics=separate") == 2
    err = capsys.readouterr().err
    assert f"network.strong_statistics: {method} has no passes of strong views alone" in err
    assert err.count("\n") == 1
    assert not run.exists()


def test_clipping_bounds_the_update(tmp_path):
    options = ["method=supervised", "train.steps=1", "optim.momentum=0", "optim.weight_decay=0", "optim.lr=1.0"]
    assert train(tmp_path, tmp_path / "clipped", *options, "train.clip_norm=0.01") == 0
    assert train(tmp_path, tmp_path / "free", *options) == 0
    clipped, free = (checkpoint(tmp_path / name)["method"] for name in ("clipped", "free"))
    trained = [k for k in free if not torch.equal(free[k], clipped[k]) and free[k].is_floating_point()]
    assert trained
    # both began alike: the distance between them is that of the free update less the clipped one's 0.01
    distance = torch.sqrt(sum((free[k] - clipped[k]).double().square().sum() for k in trained if "running" not in k))
    assert distance > 0.1


def test_learning_rate_of_the_heads_and_warm_up(tmp_path):
    options = ["method=supervised", "train.steps=4", "optim.lr=0.1", "optim.head_lr=10", "optim.warmup_steps=2"]
    assert train(tmp_path, tmp_path / "run", *options, "optim.schedule=constant") == 0
    rates = [json.loads(line)["lr"] for line in (tmp_path / "run" / "metrics.jsonl").open() if '"train"' in line]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip("tensorboard")
    assert train(tmp_path, tmp_path / "run", "method=supervised", "train.steps=2", "train.tensorboard=true") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_the_cache_changes_nothing_but_speed(tmp_path, monkeypatch):
    photos = make_photos(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ["method=cutmix_seg", "train.steps=4", *folder_options(photos)]
    assert train(tmp_path, tmp_path / "plain", *options) == 0
    assert train(tmp_path, tmp_path / "cached", *options, "data.cache=true") == 0
    assert_equal(checkpoint(tmp_path / "cached"), checkpoint(tmp_path / "plain"))
