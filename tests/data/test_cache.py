from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from evenseg.data.cache import CachedDataset, cache_splits, fill_cache
from evenseg.data.classes import Classes, palette
from evenseg.data.folder import FolderDataset
from evenseg.data.lists import Entry
from evenseg.data.resize import Resize
from evenseg.errors import InputError
from tests.data.fakes import Pictures, splits
from tests.data.tiny_data import random_image, random_label, save

CLASSES = Classes(("road", "car", "sign"), palette(3))


def files(root: Path, count: int = 6, *, labels: bool = True) -> list[Entry]:
    """Images of several sizes and formats, with labels or without."""
    entries = []
    for index in range(count):
        size = (10 + index, 20 - index)
        suffix = ("png", "jpg", "webp")[index % 3]
        save(root / f"{index}.{suffix}", random_image(index, size))
        save(root / f"{index}_label.png", random_label(index, size))
        entries.append(Entry(f"{index}.{suffix}", f"{index}_label.png" if labels else None, "here"))
    return entries


def dataset(root: Path, *, resize: Resize = None, labels: bool = True, classes: Classes = CLASSES) -> FolderDataset:
    return FolderDataset(root, files(root, labels=labels), classes, resize=resize)


def content(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def assert_equal(one: object, two: object) -> None:
    assert type(one) is type(two)
    np.testing.assert_array_equal(one, two)  # type: ignore[arg-type]
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        assert one.dtype == two.dtype
        assert one.flags.c_contiguous


@pytest.mark.parametrize("resize", [None, 8, (9, 12)])
@pytest.mark.parametrize("labels", [True, False])
def test_cached_arrays_are_those_of_the_files(tmp_path: Path, resize: Resize, labels: bool) -> None:
    source = dataset(tmp_path / "root", resize=resize, labels=labels)
    cached = CachedDataset(source, tmp_path / "cache")
    fill_cache([cached])
    assert len(content(tmp_path / "cache")) == (12 if labels else 6)
    expected = [(source.image(index), source.label(index), source.name(index)) for index in range(6)]
    shutil.rmtree(tmp_path / "root")  # everything comes from the cache from here on
    for each in (cached, pickle.loads(pickle.dumps(cached))):
        assert len(each) == 6
        assert each.classes == CLASSES
        for index, (image, label, name) in enumerate(expected):
            assert_equal(each.image(index), image)
            assert_equal(each.label(index), label)
            assert each.name(index) == name


def test_labels_of_16_bit(tmp_path: Path) -> None:
    many = Classes(tuple(f"class {index}" for index in range(300)), palette(300), ignore_index=65535)
    label = np.random.default_rng(0).choice(np.array([0, 7, 299, 65535], np.uint16), (10, 12))
    save(tmp_path / "a.png", random_image(0, (10, 12)))
    save(tmp_path / "a_label.png", label)
    cached = CachedDataset(FolderDataset(tmp_path, [Entry("a.png", "a_label.png", "here")], many), tmp_path / "cache")
    fill_cache([cached])
    (tmp_path / "a_label.png").unlink()
    assert_equal(cached.label(0), label)


def test_nothing_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    fill_cache([CachedDataset(dataset(tmp_path / "root"), folder)])
    before = content(folder)

    def refuse(self: FolderDataset, index: int) -> np.ndarray:
        raise AssertionError("decoded again")

    monkeypatch.setattr(FolderDataset, "image", refuse)
    monkeypatch.setattr(FolderDataset, "label", refuse)
    entries = [Entry(f"{index}.{suffix}", f"{index}_label.png", "") for index, suffix in ((0, "png"), (4, "jpg"))]
    calls: list[tuple[int, int, str]] = []
    other = CachedDataset(FolderDataset(tmp_path / "root", entries, CLASSES), folder)  # another split of the same files
    fill_cache([other], lambda *progress: calls.append(progress))
    assert other.image(0).shape == (10, 20, 3)
    assert content(folder) == before
    assert calls == []


def test_a_changed_source_is_decoded_anew(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "cache"
    source = dataset(root)
    fill_cache([CachedDataset(source, folder)])
    save(root / "0.png", random_image(77, (10, 20)))
    os.utime(root / "0.png", ns=(1, 1))  # an old time, as a copy with preserved times has it
    save(root / "1_label.png", random_label(77, (11, 19)))
    os.utime(root / "1_label.png", ns=(1, 1))
    stale = CachedDataset(source, folder)
    assert_equal(stale.image(0), random_image(77, (10, 20)))  # also before the cache is filled
    fill_cache([stale])
    assert len(content(folder)) == 14
    assert_equal(stale.image(0), random_image(77, (10, 20)))
    assert_equal(stale.label(1), random_label(77, (11, 19)))
    assert_equal(stale.image(1), source.image(1))


def test_resize_and_classes_are_part_of_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    other_ignore = Classes(CLASSES.names, CLASSES.colors, ignore_index=200)
    variants = [
        dataset(tmp_path / "root"),
        dataset(tmp_path / "root", resize=8),
        dataset(tmp_path / "root", resize=(8, 8)),
    ]
    plain, *resized = [CachedDataset(each, folder) for each in variants]
    fill_cache([plain, *resized])
    for cached, source in zip([plain, *resized], variants, strict=True):
        assert_equal(cached.image(3), source.image(3))
        assert_equal(cached.label(3), source.label(3))
    renamed = CachedDataset(FolderDataset(tmp_path / "root", variants[0].entries, other_ignore), folder)
    assert renamed.image_files == plain.image_files
    assert set(map(str, renamed.label_files)).isdisjoint(map(str, plain.label_files))


def test_an_interrupted_or_damaged_build_is_completed(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "cache"
    source = dataset(root)
    cached = CachedDataset(source, folder)
    fill_cache([cached])
    finished = content(folder)
    cut, empty, gone = cached.image_files[0], cached.image_files[1], cached.label_files[2]
    assert cut is not None
    assert empty is not None
    assert gone is not None
    cut.write_bytes(cut.read_bytes()[:-1])
    empty.write_bytes(b"")
    gone.unlink()
    (folder / "ab").mkdir(exist_ok=True)
    abandoned, busy = folder / "ab" / "old.tmp", folder / "ab" / "new.tmp"
    for file in (abandoned, busy):
        file.write_bytes(b"half an image")
    os.utime(abandoned, (1, 1))
    assert_equal(cached.image(0), source.image(0))  # a damaged file is never used
    fill_cache([cached])
    assert not abandoned.exists()
    assert busy.exists()
    after = content(folder)
    changed = {file for file in finished if after[file] != finished[file]}
    assert changed == {cut, empty, gone}
    shutil.rmtree(root)
    assert cached.image(0).shape == (10, 20, 3)
    assert cached.image(1).shape == (11, 19, 3)
    assert cached.label(2) is not None


def test_unreadable_images_are_left_to_be_told_when_drawn(tmp_path: Path) -> None:
    entries = files(tmp_path, labels=False)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "1.jpg").unlink()
    cut = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(cut[: len(cut) // 2])
    cached = CachedDataset(FolderDataset(tmp_path, entries, CLASSES), tmp_path / "cache")
    fill_cache([cached])
    assert len(content(tmp_path / "cache")) == 3
    for index, name in ((0, "0.png"), (1, "1.jpg"), (3, "3.png")):
        with pytest.raises(InputError, match=name):
            cached.image(index)
    assert cached.image(2).shape == (12, 18, 3)


def test_writing_to_an_array_changes_nothing_in_the_cache(tmp_path: Path) -> None:
    cached = CachedDataset(dataset(tmp_path / "root"), tmp_path / "cache")
    fill_cache([cached])
    image = cached.image(0)
    before = image.copy()
    image[:] = 0
    assert_equal(cached.image(0), before)


def test_progress_counts_what_is_decoded(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    fill_cache([CachedDataset(dataset(tmp_path / "root"), tmp_path / "cache")], lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == list(range(1, 13))
    assert {(total, what) for _, total, what in calls} == {(12, "images and labels to cache")}


def test_a_disk_that_is_too_small_is_found_out_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = CachedDataset(dataset(tmp_path / "root"), tmp_path / "cache")
    usage = namedtuple("usage", "total used free")
    sources = [cached.dataset.image(index) for index in range(6)]
    needed = sum(image.nbytes + image.nbytes // 3 for image in sources)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**9, 0, needed - 1))
    with pytest.raises(InputError, match=r"data\.cache needs .* free"):
        fill_cache([cached])
    assert content(tmp_path / "cache") == {}
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**9, 0, needed))
    fill_cache([cached])
    assert len(content(tmp_path / "cache")) == 12


def test_a_disk_that_fills_up_leaves_no_half_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = CachedDataset(dataset(tmp_path / "root"), tmp_path / "cache")

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match=r"No space left on device.*data\.cache=false"):
        fill_cache([cached])
    assert content(tmp_path / "cache") == {}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        fill_cache([CachedDataset(dataset(tmp_path / "root"), tmp_path / "file" / "cache")])


def test_several_processes_at_once(tmp_path: Path) -> None:
    source = dataset(tmp_path / "root")
    context = multiprocessing.get_context("fork")
    cached = CachedDataset(source, tmp_path / "cache")
    processes = [context.Process(target=fill_cache, args=([cached],)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(content(tmp_path / "cache")) == 12
    for index in range(6):
        assert_equal(cached.image(index), source.image(index))
        assert_equal(cached.label(index), source.label(index))


def test_splits_of_files_are_cached_where_they_are_read_again(tmp_path: Path) -> None:
    train, test = dataset(tmp_path / "train"), dataset(tmp_path / "test")
    unlabeled = dataset(tmp_path / "unlabeled", labels=False)
    plain = splits(train, unlabeled)._replace(test=test)
    cached = cache_splits(plain, tmp_path / "cache")
    assert isinstance(cached.labeled, CachedDataset)
    assert isinstance(cached.unlabeled, CachedDataset)
    assert cached.val is None
    assert cached.test is test
    assert len(content(tmp_path / "cache")) == 18
    assert cached.unlabeled.label(0) is None
    in_memory = splits(Pictures(3))
    assert cache_splits(in_memory, tmp_path / "nothing") == in_memory
    assert not (tmp_path / "nothing").exists()
