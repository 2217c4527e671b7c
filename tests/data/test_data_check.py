from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from evenseg.data import check as check_module
from evenseg.data.check import Checker, in_parallel, overlap
from evenseg.data.classes import load_classes
from evenseg.data.lists import Entry
from evenseg.data.memory import Memory, file_state, memory_file, user_cache_dir
from evenseg.data.resize import resize_label
from evenseg.errors import InputError
from tests.data.tiny_data import random_image, random_label, save, write_classes, write_pairs


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    write_classes(tmp_path)
    pairs = [line.split() for line in write_pairs(tmp_path, 5)]
    return [Entry(image, label, f"l.txt line {number}") for number, (image, label) in enumerate(pairs, 1)]


def checker(root: Path, **options: object) -> Checker:
    options.setdefault("memory", Memory(None))
    return Checker(root, load_classes(root / "classes.json"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", [None, 5])
def test_counts_are_those_of_the_labels(tmp_path: Path, entries: list[Entry], resize: int | None) -> None:
    labels = [resize_label(random_label(index), resize) for index in range(5)]
    expected = [[int((label == c).sum()) for c in range(3)] for label in labels]
    check = checker(tmp_path, resize=resize)
    for counts in (check.pairs(entries, ""), check.labels(entries, ""), check.pairs(entries, "")):
        assert counts.dtype == np.int64
        assert counts.tolist() == expected


def test_progress(tmp_path: Path, entries: list[Entry]) -> None:
    seen: list[tuple[int, int, str]] = []
    checker(tmp_path, progress=lambda *state: seen.append(state)).pairs(entries, "labeled images")
    assert seen == [(done, 5, "labeled images") for done in range(1, 6)]


def test_first_fault_in_order_and_number_of_others(tmp_path: Path, entries: list[Entry]) -> None:
    save(tmp_path / "labels/train/001.png", random_label(1, (12, 15)))
    (tmp_path / "images/train/003.png").unlink()
    save(tmp_path / "labels/train/004.png", np.full((12, 16), 9, np.uint8))
    with pytest.raises(InputError) as caught:
        checker(tmp_path).pairs(entries, "")
    message = str(caught.value)
    assert message.startswith(f"l.txt line 2: {tmp_path}/labels/train/001.png: the label has 15x12 pixels")
    assert "images/train/001.png 16x12" in message
    assert message.endswith("(and 2 more faults)")
    with pytest.raises(InputError, match=r"l\.txt line 4: .*003\.png: no such file"):
        checker(tmp_path).pairs(entries[3:4], "")
    with pytest.raises(InputError, match=r"l\.txt line 5: .*004\.png: label ids outside .*: 9;"):
        checker(tmp_path).labels(entries[4:], "")


def test_pairs_decode_images_and_labels_only_headers(tmp_path: Path, entries: list[Entry]) -> None:
    path = tmp_path / "images/train/000.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 30] ^= 0xFF  # header and end are sound
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        checker(tmp_path).pairs(entries, "")
    checker(tmp_path).labels(entries, "")
    assert checker(tmp_path).headers(entries, "") == []
    path.write_bytes(data[:-30])
    (fault,) = checker(tmp_path).headers(entries, "")
    assert fault.startswith(f"l.txt line 1: {path}: ")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    names: list[str] = []
    for function in ("decode_image", "decode_label"):
        original = getattr(check_module, function)

        def spy(path: Path, original: object = original) -> np.ndarray:
            names.append("/".join(path.parts[-3:]))
            return original(path)  # type: ignore[operator]

        monkeypatch.setattr(check_module, function, spy)
    return names


def test_sound_files_are_remembered_until_they_change(tmp_path: Path, entries: list[Entry], decoded: list[str]) -> None:
    file = tmp_path / "cache/checks/memory.json"
    first = checker(tmp_path, memory=Memory(file)).pairs(entries, "")
    assert len(decoded) == 10
    decoded.clear()
    again = checker(tmp_path, memory=Memory(file)).pairs(entries, "")
    assert decoded == []
    assert again.tolist() == first.tolist()

    path = tmp_path / "labels/train/002.png"
    status = path.stat()
    save(path, np.zeros((12, 16), np.uint8))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    changed = checker(tmp_path, memory=Memory(file)).pairs(entries, "")
    assert decoded == ["labels/train/002.png"]
    assert changed[2].tolist() == [192, 0, 0]


def test_faults_are_not_remembered_but_sound_files_are(
    tmp_path: Path, entries: list[Entry], decoded: list[str]
) -> None:
    file = tmp_path / "memory.json"
    save(tmp_path / "labels/train/004.png", np.full((12, 16), 9, np.uint8))
    for expected in (10, 1):
        decoded.clear()
        with pytest.raises(InputError, match="ids outside"):
            checker(tmp_path, memory=Memory(file)).pairs(entries, "")
        assert len(decoded) == expected


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 1}', '{"version": 1, "facts": {"x": 3}}', '{"version": 0, "facts": {}}', "\0"],
)
def test_damaged_memory_counts_as_empty(tmp_path: Path, content: str) -> None:
    file = tmp_path / "memory.json"
    file.write_text(content)
    memory = Memory(file)
    assert memory.recall("x", [1]) is None
    memory.remember("x", [1], [2, 3])
    memory.save()
    assert Memory(file).recall("x", [1]) == [2, 3]
    assert Memory(file).recall("x", [2]) is None
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]  # no temporary file is left
    assert json.loads(file.read_text())


def test_unwritable_memory_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = Memory(tmp_path / "file/memory.json")
    memory.remember("x", [1], [2])
    memory.save()
    assert memory.recall("x", [1]) == [2]


def test_missing_files_are_never_known(tmp_path: Path) -> None:
    memory = Memory(None)
    memory.remember("x", [1], [2])
    assert file_state(tmp_path / "none") == []
    assert memory.recall("x", file_state(tmp_path / "none")) is None


def test_memory_belongs_to_its_subject(tmp_path: Path) -> None:
    files = [memory_file(tmp_path, "root", 3, 255, resize) for resize in (None, 5, (5, 6))]
    assert len(set(files)) == 3
    assert files[0] == memory_file(tmp_path, "root", 3, 255, None)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENSEG_CACHE", "/a")
    assert user_cache_dir() == Path("/a")
    monkeypatch.delenv("EVENSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert user_cache_dir() == Path("/b/evenseg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert user_cache_dir() == Path("/c/.cache/evenseg")


def test_in_parallel_keeps_order_and_stops_on_a_mistake() -> None:
    assert in_parallel(lambda x: x * x, range(100), "", None) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda x: 1 // (x - 3), range(100), "", None)


def test_overlap_sees_through_links_and_spellings(tmp_path: Path) -> None:
    save(tmp_path / "a.png", random_image(0))
    (tmp_path / "link").symlink_to(tmp_path)
    entries = [Entry("link/a.png", None, ""), Entry("b.png", None, "")]
    others = [Entry("./c.png", None, ""), Entry("x/../a.png", None, "there")]
    assert overlap(entries, others, tmp_path) == [(entries[0], others[1])]
