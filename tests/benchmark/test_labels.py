"""Runs side by side have names that tell them apart."""

from pathlib import Path

from evenseg.benchmark.labels import labels


def test_labels_tell_runs_apart():
    paths = [Path("/r/plan/supervised/1_8-fold0"), Path("/r/plan/cutmix/1_8-fold0")]
    assert labels(paths) == ["supervised", "cutmix"]
    assert labels([Path("/r/plan/a/fold0"), Path("/r/plan/b/fold1")]) == ["a/fold0", "b/fold1"]
    assert labels([Path("/r/a"), Path("/r/a/b")]) == ["a", "a/b"]
    assert labels([Path("/r/a")]) == ["a"]
