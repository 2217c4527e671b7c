"""``evenseg compare`` on run folders made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evenseg.cli import main
from evenseg.config import Config, dump
from evenseg.training.image_scores import write_image_scores

from .results import NAMES, finished


def run_folder(
    folder: Path,
    *,
    accuracy: float,
    lists: dict[str, str] | None = None,
    named: list[str] | None = None,
    **changes: Any,
) -> Path:
    run = finished("row", 0, accuracy=accuracy, headline="last_teacher", **changes)
    folder.mkdir()
    classes = {"names": NAMES, "colors": [[0, 0, 0]] * 3, "ignore_index": 255, "tail": ["sign"], "tail_rule": "listed"}
    (folder / "config.yaml").write_text(dump(Config()))
    (folder / "classes.json").write_text(json.dumps({**classes, "class_frequency": [700, 250, 50]}))
    (folder / "result.json").write_text(json.dumps(run.result))
    environment = {"split_sha256": lists or run.environment["split_sha256"], "published_split": named or []}
    (folder / "environment.json").write_text(json.dumps(environment))
    assert run.images is not None
    write_image_scores(folder, run.images)
    return folder


def test_two_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = run_folder(tmp_path / "ours", accuracy=0.6), run_folder(tmp_path / "theirs", accuracy=0.5)
    assert main(["compare", str(ours), str(theirs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    values = [json.loads((folder / "result.json").read_text()) for folder in (ours, theirs)]
    miou = next(line for line in lines if line.startswith("mIoU"))
    assert f"{100 * values[0]['miou']:.2f}" in miou
    assert f"{100 * (values[0]['miou'] - values[1]['miou']):+.2f}  [+" in miou
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in NAMES] == list(NAMES)


def test_few_sequences_have_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = run_folder(tmp_path / "ours", accuracy=0.6), run_folder(tmp_path / "theirs", accuracy=0.5)
    assert main(["compare", str(ours), str(theirs), "--block", "8"]) == 0
    assert "No interval" in capsys.readouterr().out
    assert main(["compare", str(ours), str(theirs), "--sequence", r"(seq\d+)_"]) == 0
    assert "No interval" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lists": {"labeled": "another", "test": "all"}}, "the labeled lists differ"),
        ({"lists": {"labeled": "fold 0", "test": "another"}}, "the test lists differ"),
        ({"protocol": "sliding"}, "protocol: whole and sliding"),
        ({"split": "val"}, "scored on: test and val"),
        ({"tail_classes": ["car"]}, "tail classes: sign and car"),
        ({"split": None}, "has no score"),
    ],
)
def test_unlike_runs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], reason: str
) -> None:
    ours, theirs = run_folder(tmp_path / "a", accuracy=0.6), run_folder(tmp_path / "b", accuracy=0.5, **changes)
    assert main(["compare", str(ours), str(theirs)]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_the_reason_names_published_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = run_folder(tmp_path / "a", accuracy=0.6, named=["pascal/x/cps", "pascal/x/unimatch"])
    theirs = run_folder(tmp_path / "b", accuracy=0.5, lists={"labeled": "u", "test": "all"}, named=["pascal/x/u2pl"])
    own = run_folder(tmp_path / "c", accuracy=0.5, lists={"labeled": "v", "test": "all"})
    assert main(["compare", str(ours), str(theirs)]) == 2
    assert "differ (labeled: pascal/x/cps = pascal/x/unimatch and pascal/x/u2pl); compare" in capsys.readouterr().err
    assert main(["compare", str(own), str(theirs)]) == 2
    assert "differ (labeled: no published list and pascal/x/u2pl); compare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"lists": {"labeled": "f" * 64, "test": "all"}}, "labeled ffffffffffff, test all, whole"),
        ({"protocol": "sliding"}, "labeled fold 0, test all, sliding"),
        ({"per_class_iou": {"sky": 0.1, "car": None}, "tail_classes": []}, "labeled fold 0, test all, whole"),
    ],
)
def test_by_force_both_are_shown_with_labels_and_without_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], label: str
) -> None:
    ours = run_folder(tmp_path / "a", accuracy=0.6, named=["pascal/x/cps"])
    theirs = run_folder(tmp_path / "b", accuracy=0.5, **changes)
    assert main(["compare", str(ours), str(theirs), "--force"]) == 0
    first, second, third, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("NOT COMPARABLE: ")
    assert second == f"last_teacher of {ours}: labeled pascal/x/cps, test all, whole"
    assert third == f"last_teacher of {theirs}: {label}"
    miou = next(line for line in rest if line.startswith("mIoU"))
    assert "[" not in miou
    assert f"{100 * json.loads((ours / 'result.json').read_text())['miou']:.2f}" in miou


def test_force_changes_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = run_folder(tmp_path / "ours", accuracy=0.6), run_folder(tmp_path / "theirs", accuracy=0.5)
    assert main(["compare", str(ours), str(theirs)]) == 0
    plain = capsys.readouterr().out
    assert main(["compare", str(ours), str(theirs), "--force"]) == 0
    assert capsys.readouterr().out == plain
    nothing = run_folder(tmp_path / "nothing", accuracy=0.5, split=None)
    assert main(["compare", str(ours), str(nothing), "--force"]) == 2


def test_unlabeled_lists_matter_only_where_both_have_one(tmp_path: Path) -> None:
    lists = {"labeled": "fold 0", "test": "all"}
    folders = [
        run_folder(tmp_path / name, accuracy=0.5, lists={**lists, **more})
        for name, more in (("none", {}), ("one", {"unlabeled": "1"}), ("two", {"unlabeled": "2"}))
    ]
    assert main(["compare", str(folders[0]), str(folders[1])]) == 0
    assert main(["compare", str(folders[1]), str(folders[2])]) == 2


def test_unfinished_and_damaged_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = run_folder(tmp_path / "ours", accuracy=0.6), run_folder(tmp_path / "theirs", accuracy=0.5)
    (theirs / "images.npz").write_bytes(b"PK")
    assert main(["compare", str(ours), str(theirs)]) == 2
    assert "images.npz: damaged" in capsys.readouterr().err
    (theirs / "result.json").unlink()
    assert main(["compare", str(ours), str(theirs)]) == 2
    assert "has no result yet" in capsys.readouterr().err
    assert main(["compare", str(ours), str(tmp_path)]) == 2
    assert main(["compare", str(ours), str(ours), "--sequence", "("]) == 2
