"""Published lists are got, verified, kept and found again; nothing is overwritten, nothing else is taken for them."""

from __future__ import annotations

import io
import os
import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evenseg.data.permutation import read_permutation
from evenseg.data.split_lists import get, kept_file, resolve
from evenseg.errors import InputError
from tests.data.split_toys import COMMIT, toy_split, use_registry

NAME, CITY, PICKLED, FULL = "toy/1_4/official", "city/1_3/official", "toy/1_2/permuted", "toy/full/official"
ORDER = [3, 0, 7, 1, 2, 6, 5, 4]
URL = f"https://raw.githubusercontent.com/someone/Toy/{COMMIT}/lists/some.txt"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    splits = {
        NAME: toy_split(["7", "2"], {}, {"repository": "other/Copy", "commit": None, "path": "again.txt"}),
        CITY: toy_split(["ulm_1_9", "bonn_2_9"]),
        PICKLED: toy_split(["3", "0", "7", "1"], {"path": "order.pkl", "permutes": FULL}),
        FULL: toy_split("01234567", {"path": "full.txt"}),
        "slices/1/official": toy_split(["p_1", "p_2"], {"commit": None}),
    }
    use_registry(splits, tmp_path, monkeypatch)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    return tmp_path / "cache"


def no_network(url: str, timeout: float) -> Any:
    raise urllib.error.URLError("no network")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("place", [f"{NAME}/labeled.txt", "lists/some.txt", "Toy/lists/some.txt", "Copy/again.txt"])
@pytest.mark.parametrize(
    "lines", ["7\r\n2\r\n", "\ufeff/x/7.jpg\t/y/7.png\n\n/x/2.jpg\t/y/2.png", "7.jpg z/7.png \n2.jpg z/2.png\n"]
)
def test_a_copy_is_read_in_whatever_form(cache: Path, tmp_path: Path, place: str, lines: str) -> None:
    write(tmp_path / "copy" / place, lines)
    path = get(NAME, cache, copy=tmp_path / "copy")
    assert path == kept_file(NAME, cache) == cache / "splits" / NAME / "labeled.txt"
    assert path.read_bytes() == b"images/7.png labels/7.png\nimages/2.png labels/2.png\n"
    assert os.listdir(path.parent) == ["labeled.txt"]


def test_a_file_itself_is_a_copy_and_so_is_a_cache(cache: Path, tmp_path: Path) -> None:
    path = get(CITY, cache, copy=write(tmp_path / "any.txt", "ulm_1_9_leftImg8bit.png\nbonn_2_9_leftImg8bit.png\n"))
    text = "left/ulm/ulm_1_9_leftImg8bit.png fine/ulm/ulm_1_9_label.png\n"
    assert path.read_text() == text + text.replace("ulm", "bonn").replace("_1_", "_2_")
    assert get(CITY, tmp_path / "next", copy=cache / "splits").read_text() == path.read_text()


def test_images_without_label_files(cache: Path, tmp_path: Path) -> None:
    copy = write(tmp_path / "a.txt", "data/p_1.h5\ndata/p_2.h5")
    assert get("slices/1/official", cache, copy=copy).read_text() == "data/p_1.h5\ndata/p_2.h5\n"


def test_the_source_is_asked_for_the_file_at_its_commit(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append((url, timeout))
        return io.BytesIO(b"2\n7\n")

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    path = get(NAME, cache)
    assert path.read_text() == "images/2.png labels/2.png\nimages/7.png labels/7.png\n"
    assert get(NAME, cache) == path
    assert [url for url, _ in asked] == [URL]
    assert 0 < asked[0][1] <= 60


def test_a_source_that_never_ends_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return b"1\n" * 2**20

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Endless())
    with pytest.raises(InputError, match=r"cannot be read \(more than 60 seconds, or 32 MiB\)"):
        get(NAME, cache)
    assert not cache.exists()


def test_offline_one_is_told_what_to_fetch_and_where_to_put_it(cache: Path) -> None:
    with pytest.raises(InputError) as refused:
        get(NAME, cache)
    assert str(refused.value) == (
        f"{NAME}: {URL} cannot be read (no network); fetch it where there is a network, save it as "
        f"FOLDER/lists/some.txt, and run `evenseg data splits get {NAME} --from FOLDER`"
    )
    with pytest.raises(InputError, match=r"no commit .* clone https://github.com/someone/Toy, .* as lists/some.txt"):
        get("slices/1/official", cache)


def test_another_list_is_refused_and_nothing_is_kept(cache: Path, tmp_path: Path) -> None:
    write(tmp_path / "copy/lists/some.txt", "7\n3\n")
    with pytest.raises(
        InputError, match=r"some.txt is another list: 2 images, ids \w{12}, in place of 2, .* commit 01"
    ):
        get(NAME, cache, copy=tmp_path / "copy")
    write(tmp_path / "copy/lists/some.txt", "7\n2\n7\n")
    with pytest.raises(InputError, match="lists 7 twice"):
        get(NAME, cache, copy=tmp_path / "copy")
    (tmp_path / "copy/lists/some.txt").write_bytes(b"\xff\xfe7")
    with pytest.raises(InputError, match="not UTF-8"):
        get(NAME, cache, copy=tmp_path / "copy")
    assert not cache.exists()


def test_of_several_files_the_right_one_is_taken(cache: Path, tmp_path: Path) -> None:
    write(tmp_path / "lists/some.txt", "7\n3\n")
    write(tmp_path / "again.txt", "7\n2\n")
    assert get(NAME, cache, copy=tmp_path).read_text().startswith("images/7.png")


def test_an_empty_place_names_what_it_should_hold(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has no {NAME}/labeled.txt or lists/some.txt of someone/Toy or again.txt"):
        get(NAME, cache, copy=tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        get(NAME, cache, copy=tmp_path / "missing")


def test_what_is_kept_is_never_overwritten(cache: Path, tmp_path: Path) -> None:
    copy = write(tmp_path / "copy.txt", "7\n2\n")
    path = get(NAME, cache, copy=copy)
    path.write_text("images/2.png mine/2.png\nimages/7.png mine/7.png\n")  # the same images
    assert get(NAME, cache, copy=copy).read_text().startswith("images/2.png mine")
    path.write_text("images/2.png labels/2.png\n")
    for again in (lambda: get(NAME, cache, copy=copy), lambda: resolve(NAME, tmp_path, cache, key="labeled")):
        with pytest.raises(InputError, match=r"is another list: 1 images, .* remove the file and run"):
            again()
    assert path.read_text() == "images/2.png labels/2.png\n"


@pytest.mark.parametrize("values", [np.array(ORDER), np.array(ORDER, np.uint16), ORDER], ids=str)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_permutation_reorders_the_full_list(cache: Path, tmp_path: Path, values: object, protocol: int) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "order.pkl").write_bytes(pickle.dumps(values, protocol))
    with pytest.raises(InputError, match=f"run `evenseg data splits get {FULL}` first"):
        get(PICKLED, cache, copy=clone)
    get(FULL, cache, copy=write(tmp_path / "full.txt", "\n".join("75310246")))
    for copy, where in ((clone, cache), (clone / "order.pkl", cache)):
        kept_file(PICKLED, where).unlink(missing_ok=True)
        lines = get(PICKLED, where, copy=copy).read_text().splitlines()
        assert [line.split()[0] for line in lines] == [f"images/{i}.png" for i in (3, 0, 7, 1)]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "value", [Evil(), [0, 0], [1, 2], np.array([0.0, 1.0]), np.eye(2), "ab", None], ids=list("abcdefg")
)
def test_a_pickle_of_anything_else_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(value)
    for damaged in (content, content[:-3], b""):
        with pytest.raises(InputError, match=r"^x.pkl: is no pickled permutation of 2 images"):
            read_permutation(damaged, "x.pkl", 2)
    assert not os.listdir(tmp_path)


def test_a_name_stands_for_the_kept_file_unless_the_root_has_one(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(
        InputError, match=f"data.labeled: .* not on this machine; get it with `evenseg data splits get {NAME}`"
    ):
        resolve(NAME, root, cache, key="labeled")
    path = get(NAME, cache, copy=write(tmp_path / "copy.txt", "7\n2\n"))
    assert resolve(NAME, root, cache, key="labeled") == str(path)
    write(root / NAME, "images/1.png labels/1.png\n")
    assert resolve(NAME, root, cache, key="labeled") == NAME


def test_other_values_are_left_alone_and_near_misses_are_told(cache: Path, tmp_path: Path) -> None:
    for value in ("labeled.txt", "lists/labeled.txt", "toy/labels.txt", "/a/b", "images/train"):
        assert resolve(value, tmp_path, cache, key="labeled") == value
    for value in ("toy/1_4/oficial", "toi/1_4/official", "toy/1_4"):
        with pytest.raises(InputError, match=rf"data.train: {value} is no list .* \((did you mean|there are) .*{NAME}"):
            resolve(value, tmp_path, cache, key="train")
