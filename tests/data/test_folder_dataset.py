from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evenseg.data.classes import load_classes
from evenseg.data.dataset import Dataset, Subset
from evenseg.data.folder import FolderDataset
from evenseg.data.lists import Entry
from evenseg.data.resize import resize_image, resize_label
from evenseg.errors import InputError
from tests.data.tiny_data import random_image, random_label, save, write_classes, write_pairs


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    pairs = [line.split() for line in write_pairs(tmp_path, 4)]
    entries = [Entry(image, label, "list") for image, label in pairs]
    return FolderDataset(tmp_path, entries, load_classes(write_classes(tmp_path)))


def test_gives_what_was_written(dataset: FolderDataset) -> None:
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 4
    for index in range(4):
        assert np.array_equal(dataset.image(index), random_image(index))
        label = dataset.label(index)
        assert label is not None
        assert np.array_equal(label, random_label(index))
    assert dataset.name(2) == "images/train/002.png"
    assert [path.name for path in dataset.files(2)] == ["002.png", "002.png"]


def test_survives_pickling_and_threads(dataset: FolderDataset) -> None:
    copy = pickle.loads(pickle.dumps(dataset))
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(copy.image, [0, 1, 2, 3] * 5))
    assert all(np.array_equal(image, random_image(index % 4)) for index, image in enumerate(images))


@pytest.mark.parametrize("resize", [6, (7, 9), 20])
def test_resizes_at_once(dataset: FolderDataset, resize: int | tuple[int, int]) -> None:
    resized = FolderDataset(dataset.root, dataset.entries, dataset.classes, resize=resize)
    label = resized.label(1)
    assert label is not None
    assert resized.image(1).shape[:2] == label.shape
    assert np.array_equal(resized.image(1), resize_image(random_image(1), resize))
    assert np.array_equal(label, resize_label(random_label(1), resize))


def test_unlabeled_images_open_no_label(dataset: FolderDataset) -> None:
    unlabeled = FolderDataset(dataset.root, [entry._replace(label=None) for entry in dataset.entries], dataset.classes)
    assert unlabeled.label(0) is None
    assert unlabeled.files(0) == (dataset.root / "images/train/000.png",)


def test_ids_are_checked_at_every_reading(dataset: FolderDataset) -> None:
    save(dataset.root / "labels/train/001.png", np.full((12, 16), 3, np.uint8))
    with pytest.raises(InputError, match=r"labels/train/001\.png: label ids outside the 3 classes \(0\.\.2\): 3"):
        dataset.label(1)


def test_ignore_index_of_the_files_becomes_255(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    Image.fromarray(np.array([[0, 77]], np.uint8)).save(tmp_path / "labels/train/000.png")
    classes = load_classes(write_classes(tmp_path, ignore_index=77))
    dataset = FolderDataset(tmp_path, [Entry("images/train/000.png", "labels/train/000.png", "")], classes)
    label = dataset.label(0)
    assert label is not None
    assert label.tolist() == [[0, 255]]


def test_subset(dataset: FolderDataset) -> None:
    subset = Subset(dataset, [3, 1])
    assert isinstance(subset, Dataset)
    assert len(subset) == 2
    assert [subset.name(0), subset.name(1)] == ["images/train/003.png", "images/train/001.png"]
    label = subset.label(0)
    assert label is not None
    assert np.array_equal(label, random_label(3))
    assert np.array_equal(subset.image(1), random_image(1))
