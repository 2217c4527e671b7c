"""Unlabeled images that turn out damaged when they are drawn: left out up to a number, then the run stops, saved."""

import json

import pytest

from .helpers import checkpoint, damage, folder_options, make_photos, train


@pytest.mark.parametrize(("allowed", "code"), [(0, 2), (1, 0)])
def test_an_image_that_cannot_be_read(tmp_path, capsys, allowed, code):
    photos = make_photos(tmp_path)
    damage(photos, 3)
    run = tmp_path / "run"
    options = ["method=cutmix_seg", "train.steps=6", f"data.max_unreadable={allowed}", *folder_options(photos)]
    assert train(tmp_path, run, *options) == code
    captured = capsys.readouterr()
    assert "unlabeled/3.png" in (captured.err if code else captured.out)
    if code:
        assert captured.err.count("\n") == 1
        assert (run / "checkpoints" / "last.ckpt").exists()
    else:
        assert any("3.png" in message for message in json.loads((run / "result.json").read_text())["unreadable_images"])


def test_they_are_counted_where_ranks_meet(tmp_path, capsys):
    photos = make_photos(tmp_path)
    damage(photos, 0)
    damage(photos, 3)
    run = tmp_path / "run"
    options = ["method=cutmix_seg", "train.steps=7", *folder_options(photos), "train.checkpoint_every=4"]
    options += ["train.log_every=6", "train.unlabeled_batch=1"]  # one at a time, or one batch might hold both
    assert train(tmp_path, run, *options, "data.max_unreadable=1") == 2
    captured = capsys.readouterr()
    assert "raise data.max_unreadable (now 1; 2 images so far)" in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out.count("left out: ") == 2
    progress = checkpoint(run)["progress"]
    assert progress["step"] in (4, 6)
    assert len(progress["unreadable"]) == 2
    assert train(tmp_path, run, *options, "data.max_unreadable=2") == 0
    assert len(json.loads((run / "result.json").read_text())["unreadable_images"]) == 2
