from __future__ import annotations

from pathlib import Path

import pytest

from evenseg.data.lists import Entry, format_line, read_source
from evenseg.errors import InputError
from tests.data.tiny_data import random_image, random_label, save, write_list, write_pairs


def columns(entries: list[Entry]) -> list[tuple[str, str | None]]:
    return [(entry.image, entry.label) for entry in entries]


def test_labeled_list(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(
        b"\xef\xbb\xbfa.png  b.png\r\n\r\n  c d/e.png\t \nmy a.png\tmy b.png\n/x/y.png z.png"
    )
    with pytest.raises(InputError, match=r"l\.txt line 3: 1 column where `image label`"):
        read_source("l.txt", tmp_path, key="labeled", labeled=True)
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa.png  b.png\r\n\r\nmy a.png\tmy b.png\n/x/y.png z.png")
    entries = read_source("l.txt", tmp_path, key="labeled", labeled=True)
    assert columns(entries) == [("a.png", "b.png"), ("my a.png", "my b.png"), ("/x/y.png", "z.png")]
    assert [entry.where for entry in entries] == [f"{tmp_path / 'l.txt'} line {number}" for number in (1, 3, 4)]


def test_unlabeled_list_ignores_the_second_column(tmp_path: Path) -> None:
    write_list(tmp_path, "u.txt", ["a.png", "b.png none/here.png", "my c.png\t"])
    entries = read_source("u.txt", tmp_path, key="unlabeled", labeled=False)
    assert columns(entries) == [("a.png", None), ("b.png", None), ("my c.png", None)]


@pytest.mark.parametrize("labeled", [True, False])
def test_absolute_list(tmp_path: Path, labeled: bool) -> None:
    (tmp_path / "root").mkdir()
    write_list(tmp_path, "l.txt", ["a.png b.png"])
    entries = read_source(str(tmp_path / "l.txt"), tmp_path / "root", key="val", labeled=labeled)
    assert columns(entries) == [("a.png", "b.png" if labeled else None)]


@pytest.mark.parametrize(
    ("content", "labeled", "fault"),
    [
        ("", True, "the list is empty"),
        ("\n  \n", False, "the list is empty"),
        ("a b\na\n", True, r"l\.txt line 2: 1 column "),
        ("a b c\n", True, r"l\.txt line 1: 3 columns"),
        ("a b c\n", False, r"l\.txt line 1: 3 columns"),
        ("a\t\tb\n", False, r"l\.txt line 1: 3 columns"),
        ("\tb\n", True, r"l\.txt line 1: 2 columns"),
        ("a b\nc d\n./a e\n", True, r"l\.txt line 3: \./a is listed before, at .*l\.txt line 1"),
        ("a\nx/../a\n", False, r"line 2"),
        ("a\0b\n", False, "no.* UTF-8 text"),
    ],
)
def test_faults_of_lists(tmp_path: Path, content: str, labeled: bool, fault: str) -> None:
    (tmp_path / "l.txt").write_text(content)
    with pytest.raises(InputError, match=fault) as caught:
        read_source("l.txt", tmp_path, key="labeled", labeled=labeled)
    assert str(tmp_path / "l.txt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_list_that_is_missing_or_an_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.val: .*none\.txt: no such list or folder"):
        read_source("none.txt", tmp_path, key="val", labeled=True)
    with pytest.raises(InputError, match=r"data\.val is empty"):
        read_source(" ", tmp_path, key="val", labeled=True)
    save(tmp_path / "image.png", random_image(0))
    with pytest.raises(InputError, match="UTF-8 text"):
        read_source("image.png", tmp_path, key="val", labeled=True)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a.png", "b.png", ""),
        Entry("a.png", None, ""),
        Entry("my a.png", None, ""),
        Entry("a.png", "my b.png", ""),
    ],
)
def test_lines_read_back(tmp_path: Path, entry: Entry) -> None:
    write_list(tmp_path, "l.txt", [format_line(entry)])
    (back,) = read_source("l.txt", tmp_path, key="val", labeled=entry.label is not None)
    assert columns([back]) == columns([entry])


def test_folder_of_images(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.jpg", "a.png", ".hidden.png", ".git/x.png"):
        save(tmp_path / "pool" / name, random_image(0))
    (tmp_path / "pool/notes.txt").touch()
    (tmp_path / "pool/a/loop").symlink_to(tmp_path / "pool")
    entries = read_source("pool", tmp_path, key="unlabeled", labeled=False)
    assert columns(entries) == [("pool/a.png", None), ("pool/a/c.jpg", None), ("pool/b.png", None)]
    outside = read_source(str(tmp_path / "pool"), tmp_path / "elsewhere", key="unlabeled", labeled=False)
    assert outside[0].image == (tmp_path / "pool/a.png").as_posix()


def test_labels_beside_a_folder_of_images(tmp_path: Path) -> None:
    lines = write_pairs(tmp_path, 3)
    save(tmp_path / "images/train/deep/x.jpg", random_image(9))
    save(tmp_path / "labels/train/deep/x.tif", random_label(9))
    save(tmp_path / "labels/train/more.png", random_label(9))  # a label without image is left alone
    entries = read_source("images/train", tmp_path, key="labeled", labeled=True)
    expected = [tuple(line.split()) for line in lines]
    assert columns(entries) == [*expected, ("images/train/deep/x.jpg", "labels/train/deep/x.tif")]


@pytest.mark.parametrize("named", [True, False])
def test_labels_of_data_labels(tmp_path: Path, named: bool) -> None:
    save(tmp_path / "train/a.b.png", random_image(0))
    label = save(tmp_path / ("masks/train/a.b.png" if named else "masks/a.b.png"), random_label(0))
    entries = read_source("train", tmp_path, key="labeled", labeled=True, labels="masks")
    assert columns(entries) == [("train/a.b.png", label.relative_to(tmp_path).as_posix())]


def test_faults_of_folders(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    with pytest.raises(InputError, match="no images in this folder"):
        read_source("pool", tmp_path, key="labeled", labeled=False)
    save(tmp_path / "pool/a.png", random_image(0))
    with pytest.raises(InputError, match=r"set data\.labels"):
        read_source("pool", tmp_path, key="labeled", labeled=True)
    with pytest.raises(InputError, match=r"data\.labels: .*no such folder"):
        read_source("pool", tmp_path, key="labeled", labeled=True, labels="masks")
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"pool/a\.png has no label, .*masks/a with \.png"):
        read_source("pool", tmp_path, key="labeled", labeled=True, labels="masks")
    save(tmp_path / "masks/a.png", random_label(0))
    save(tmp_path / "masks/a.tif", random_label(0))
    with pytest.raises(InputError, match="both labels of the same image"):
        read_source("pool", tmp_path, key="labeled", labeled=True, labels="masks")
    (tmp_path / "masks/a.tif").unlink()
    save(tmp_path / "pool/a.jpg", random_image(0))
    with pytest.raises(InputError, match="would share one label"):
        read_source("pool", tmp_path, key="labeled", labeled=True, labels="masks")


def test_a_folder_called_images_above_the_root_is_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "images/data"
    save(root / "pool/a.png", random_image(0))
    save(tmp_path / "labels/data/pool/a.png", random_label(0))
    with pytest.raises(InputError, match=r"set data\.labels"):
        read_source("pool", root, key="labeled", labeled=True)
