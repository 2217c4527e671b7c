"""A published number stands beside runs of the same images, network and protocol, and beside no others."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from evenseg.benchmark import published, tables
from evenseg.benchmark.beside import Beside, beside
from evenseg.benchmark.difference import Units
from evenseg.benchmark.finished import Finished
from evenseg.benchmark.published import published_tables
from evenseg.benchmark.summary import summarize_plan
from evenseg.config import override_config
from evenseg.data.image_ids import ids_sha256

from .results import finished

LABELED, SCORED = ids_sha256(["a", "b"]), ids_sha256(["x", "y", "z"])
FILE = f"""
paper: {{method: Ours, title: A Paper, venue: CVPR, year: 2024, url: "https://example.org"}}
tables:
  made_up:
    table: Table 7
    dataset: Streets
    scored: {{name: val, images: 3, ids_sha256: {SCORED}}}
    classes: 3
    network: {{architecture: unet, encoder: resnet18, weights: imagenet}}
    protocol: {{label: whole, said: the whole image}}
    checkpoint: best epoch on val
    splits:
      few: {{images: 1}}
      1/8: {{images: 2, ids_sha256: {LABELED}, list: here}}
    rows:
      Known: [11.0, [61.25, 0.5]]
      Better & Best: [12.0, 72]
      Elsewhere: [13.0, null]
"""
UNKNOWN_PROTOCOL = FILE.replace("made_up", "silent").replace("{label: whole", "{label: null")
PRIVATE = FILE.replace("made_up", "private").replace(f", ids_sha256: {LABELED}, list: here", "")


@pytest.fixture(autouse=True)
def _papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, text in {"one": FILE, "two": UNKNOWN_PROTOCOL, "three": PRIVATE}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    published_tables.cache_clear()
    yield
    published_tables.cache_clear()


def run(
    row: str = "row",
    fold: int = 0,
    *,
    keys: tuple[str, ...] = (),
    labeled: str = LABELED,
    scored: str = SCORED,
    **changes: Any,
) -> Finished:
    made = finished(row, fold, accuracy=0.5, **changes)
    config = override_config(made.spec.config, ["network.architecture=unet", "network.encoder=resnet18", *keys])
    environment = {**made.environment, "ids_sha256": {"labeled": labeled, "test": scored}}
    return made._replace(spec=made.spec._replace(config=config), environment=environment)


def found(*runs: Finished, name: str = "made_up") -> Beside:
    return beside([name], runs, ["1/8", "1/4"])


def test_the_same_images_network_and_protocol_match() -> None:
    lines, notes = found(run(), run(fold=1), run("other"))
    assert notes == []
    assert [(line.method, line.split) for line in lines] == [("Known", "1/8"), ("Better & Best", "1/8")]
    assert lines[0].miou == pytest.approx((0.6125, 0.005))
    assert (lines[1].miou.mean, lines[1].miou.std) == (pytest.approx(0.72), None)
    assert lines[0].source == "published: CVPR 2024, Ours, Table 7, weights imagenet, best epoch on val"


def test_another_spelling_of_the_network_is_the_same() -> None:
    assert found(run(keys=("network.architecture=U-Net",))).lines


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labeled": ids_sha256(["a", "c"])}, "other images are labeled than in any of its splits"),
        ({"scored": ids_sha256(["x", "y"])}, "other images are scored than the 3 of its val"),
        ({"split": "val"}, "other images are scored than the 3 of its val"),
        ({"protocol": "whole, flip"}, "protocol: whole there, whole, flip here"),
        ({"keys": ("data.resize=[64,96]",)}, "size of the images: their own there, 64x96 here"),
        ({"keys": ("network.architecture=pspnet",)}, "architecture: unet there, pspnet here"),
        ({"keys": ("network.encoder=resnet50",)}, "encoder: resnet18 there, resnet50 here"),
        ({"per_class_iou": {"road": 1.0}}, "number of classes: 3 there, 1 here"),
    ],
)
def test_whatever_differs_keeps_it_away_and_is_named(changes: dict[str, Any], reason: str) -> None:
    for runs in ([run(**changes)], [run(), run("other", **changes)]):
        lines, notes = found(*runs)
        assert lines == []
        assert notes == [f"published table made_up is not shown: {reason}"]


def test_what_is_not_known_never_matches() -> None:
    lines, notes = found(run(), name="silent")
    assert lines == []
    assert notes[0].endswith('the paper does not say how images were predicted; all it says is "the whole image"')
    lines, notes = found(run(), name="private")
    assert lines == []
    assert notes[0].endswith("which images were labeled is not public")


def test_results_without_ids_never_match() -> None:
    old = run()
    del old.environment["ids_sha256"]
    lines, notes = found(old)
    assert lines == []
    assert "did not record the ids" in notes[0]


def test_folds_of_other_images_are_not_averaged_beside_it() -> None:
    lines, notes = found(run(), run(fold=1, labeled=ids_sha256(["b", "c"])))
    assert lines == []
    assert len(notes) == 1


def test_a_plan_without_results_says_so() -> None:
    assert found() == Beside([], ["published table made_up is not shown: no run of this plan is finished"])


def test_the_lines_are_marked_in_every_format() -> None:
    lines = summarize_plan([run()], ["row"], ["1/8"], "row", 1, Units())
    table = tables.main_table(lines, found(run()).lines)
    columns, (ours, *theirs) = table
    assert columns[-1] == "source"
    assert ours[-1] == "here"
    assert [row[:4] for row in theirs] == [["Known", "1/8", "-", "61.25 ± 0.50"], ["Better & Best", "1/8", "-", "72.0"]]
    assert all(set(row[4:-1]) == {"-"} and "best epoch on val" in row[-1] for row in theirs)
    assert len({len(row) for row in (columns, ours, *theirs)}) == 1
    assert "| Known | 1/8 | - | 61.25 ± 0.50 | - |" in tables.markdown(table)
    assert list(csv.reader(io.StringIO(tables.comma_separated(table))))[1:] == [ours, *theirs]
    assert "Better \\& Best & 1/8 & - & 72.0 & " in tables.latex(table)
    assert tables.main_table(lines)[0][-1] == "memory, GiB"
