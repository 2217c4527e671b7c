"""``evenseg train`` in two processes."""

import pytest

from evenseg.data.samplers import Stream

from ..training.helpers import checkpoint, config_file, damage, folder_options, make_photos
from .launch import ranks


@pytest.mark.slow
def test_unreadable_images_are_counted_over_all_processes(tmp_path):
    """Each process meets one in the first step, which is as many as are allowed; together they are too many."""
    photos = make_photos(tmp_path)
    stream = Stream(seed=3, name="unlabeled", length=6)
    for draw in (0, 3):  # the first process has draws 0 and 1, the other 2 and 3
        damage(photos, stream.index(draw))
    run = tmp_path / "run"
    options = ["method=cutmix_seg", "train.steps=2", *folder_options(photos), "train.unlabeled_batch=4"]
    options += ["data.max_unreadable=1", "data.workers=0"]
    ended = ranks("train", config_file(tmp_path), "--output", run, *options)
    assert [process.code for process in ended] == [2, 2], ended
    assert ended[0].err == ended[1].err
    assert ended[0].err.count("\n") == 1
    assert "raise data.max_unreadable (now 1; 2 images so far)" in ended[0].err
    progress = checkpoint(run)["progress"]
    assert progress["step"] == 1
    assert len(progress["unreadable"]) == 2
