"""The numbers of papers that come with evenseg: whole, and of the lists they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenseg.benchmark import published
from evenseg.benchmark.plan import load_plan
from evenseg.benchmark.published import published_tables
from evenseg.cli import main
from evenseg.data.image_ids import ids_sha256
from evenseg.errors import InputError

SPLITS = Path(__file__).resolve().parents[2] / "../shared/data/splits"
# where the lists of a table lie: by table and split, else by data set
LISTS = {
    ("usrn_voc", "1/64"): "pascal/aug_1_64_165/usrn",
    ("usrn_voc", "1/32"): "pascal/aug_1_32_331/usrn",
    ("usrn_voc", "1/16"): "pascal/aug_1_16_662/usrn",
    ("usrn_voc_combined", "1/32"): "pascal/aug_1_32_331/usrn",
    ("usrn_voc_pspnet", "1/32"): "pascal/aug_1_32_331/usrn",
    ("usrn_voc_psanet", "1/32"): "pascal/aug_1_32_331/usrn",
    ("usrn_cityscapes", "1/32"): "cityscapes/1_32_93/usrn",
    ("usrn_cityscapes", "1/16"): "cityscapes/1_16_186/usrn",
    ("usrn_cityscapes", "1/8"): "cityscapes/1_8_372/usrn",
    ("dars_cityscapes_361", "1/8"): "cityscapes/1_8_372/dars",
    ("dars_cityscapes_361", "1/4"): "cityscapes/1_4_744/dars",
    ("dars_cityscapes_361", "all"): "cityscapes/all_train.txt",
    ("dars_cityscapes_713", "1/8"): "cityscapes/1_8_372/dars",
    ("dars_cityscapes_713", "1/4"): "cityscapes/1_4_744/dars",
    ("dars_cityscapes_713", "all"): "cityscapes/all_train.txt",
    ("dars_voc", "1.4k"): "pascal/classic_full_1464/dars",
    ("c3semiseg_cityscapes", "Full"): "cityscapes/all_train.txt",
    ("des4_voc", "1.4k"): "pascal/all_train_classic.txt",
}
SCORED = {"PASCAL": "pascal/val.txt", "Cityscapes": "cityscapes/val.txt", "ADE20K": "ade20k/val.txt"}


def images(name: str) -> list[str]:
    path = SPLITS / name
    return [line.split()[0] for line in (path / "labeled.txt" if path.is_dir() else path).read_text().splitlines()]


def test_every_file_is_sound_and_every_paper_there() -> None:
    tables = published_tables()
    assert {table.paper.method for table in tables.values()} == {"AEL", "DARS", "USRN", "C3-SemiSeg", "DeS4"}
    for name, (_, paper, table) in tables.items():
        assert name == name.lower().replace("-", "_")
        assert name.startswith(paper.method.lower().replace("-", ""))
        assert any(value is not None for values in table.rows.values() for value in values)
    with_lists = {(name, split) for name, one in tables.items() for split, c in one.table.splits.items() if c.list}
    assert with_lists == set(LISTS)


def test_known_numbers() -> None:
    """A few that the texts of the papers repeat."""
    tables = {name: one.table for name, one in published_tables().items()}
    assert tables["ael_cityscapes"].rows["AEL"][:3] == [74.28, 75.83, 77.90]
    assert tables["ael_voc"].rows["AEL"][:3] == [76.97, 77.20, 77.57]
    assert tables["dars_cityscapes_713"].rows["DARS"][1] == (74.32, 0.12)
    assert tables["usrn_voc"].rows["USRN"][0] == pytest.approx(57.9 + 3.8)  # "outperforms ... by 3.8 %"
    assert tables["usrn_cityscapes"].rows["USRN"][0] == pytest.approx(62.5 + 2.1)
    assert tables["c3semiseg_cityscapes"].rows["C3-SemiSeg"][:3] == [(55.17, 0.86), (63.23, 0.45), (65.50, 1.08)]
    voc, u2pl = tables["des4_voc_aug"].rows["DeS4"], tables["des4_voc_aug_cited"].rows["U2PL"]
    assert [round(a - b, 2) for a, b in zip(voc, u2pl, strict=True)] == [1.61, 2.31, 2.01, 0.07]


@pytest.mark.skipif(not SPLITS.exists(), reason="needs ../shared")
def test_counts_and_hashes_are_those_of_the_public_lists() -> None:
    for name, one in published_tables().items():
        for split, column in one.table.splits.items():
            if column.ids_sha256 is not None:
                found = images(LISTS[name, split])
                assert (len(found), ids_sha256(found)) == (column.images, column.ids_sha256), (name, split)
        scored = one.table.scored
        if scored.ids_sha256 is not None:
            found = images(SCORED[one.table.dataset.split()[0]])
            assert (len(found), ids_sha256(found)) == (scored.images, scored.ids_sha256), name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Baseline: [52.4, 59.2, 63.9]", "Baseline: [52.4, 59.2]"),
        ("USRN: [61.7, 68.6, 72.3]", "USRN: [61.7, 68.6, 172.3]"),
        ("efbed47e", "XYZ"),
        ("        list: dataloaders/voc_splits0/165_train_supervised.txt of Dayan-Guan/USRN\n", ""),
        ("classes: 21", "clases: 21"),
    ],
)
def test_a_slip_in_a_file_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    text = (published.FOLDER / "usrn.yaml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "usrn.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="validation error"):
        published_tables.__wrapped__()


def test_one_name_stands_for_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (published.FOLDER / "ael.yaml").read_text(encoding="utf-8")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"b\.yaml: ael_ade20k, ael_cityscapes, ael_voc stands in another"):
        published_tables.__wrapped__()


def test_unknown_names_are_refused_with_near_ones(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("base: synthetic\nrows: {a: }\npublished: [usrn_vocc]\n")
    with pytest.raises(InputError, match=r"plan\.yaml: published: there is no published table 'usrn_vocc' .*usrn_voc"):
        load_plan(plan)
    plan.write_text("base: synthetic\nrows: {a: }\npublished: [zzz]\n")
    with pytest.raises(InputError, match="`evenseg list published`"):
        load_plan(plan)


def test_the_names_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "published", "usrn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usrn_voc ")
    assert "CVPR 2022, USRN, Table 1: PASCAL VOC 2012" in lines[0]
    assert all(line.startswith("usrn_") for line in lines)
