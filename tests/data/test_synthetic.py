"""The synthetic streets: a pure function of (seed, number), long-tailed, the same scene at every size."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from evenseg.data import synthetic
from evenseg.data.dataset import Dataset
from evenseg.data.synthetic import CLASSES, SyntheticStreets
from evenseg.data.synthetic_world import Kind

SIZE = (96, 128)


def streets(seed: int = 0, first: int = 0, count: int = 1000, size: tuple[int, int] = SIZE) -> SyntheticStreets:
    return SyntheticStreets(seed=seed, first=first, count=count, size=size)


def fingerprint(dataset: SyntheticStreets, index: int) -> int:
    return zlib.crc32(dataset.image(index).tobytes() + dataset.label(index).tobytes())


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    dataset = streets()
    return np.stack([dataset.label(index) for index in range(300)])


def test_is_a_dataset() -> None:
    dataset = streets(first=7, count=3)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 3
    assert [dataset.name(index) for index in range(3)] == ["synthetic/00007", "synthetic/00008", "synthetic/00009"]
    with pytest.raises(IndexError):
        dataset.image(3)
    with pytest.raises(IndexError):
        dataset.label(-1)


@pytest.mark.parametrize("size", [(96, 128), (97, 131), (33, 200), (200, 33), (1, 1), (240, 320)])
def test_arrays_of_any_size(size: tuple[int, int]) -> None:
    dataset = streets(size=size)
    for index in range(12):  # all weathers
        image, label = dataset.image(index), dataset.label(index)
        assert image.shape == (*size, 3)
        assert label.shape == size
        assert image.dtype == label.dtype == np.uint8
        assert image.flags.c_contiguous
        assert label.flags.c_contiguous
        assert label.max() < CLASSES.num_classes


def test_classes_are_the_kinds() -> None:
    assert [kind.name.lower().replace("_", " ") for kind in Kind] == list(CLASSES.names)
    assert [kind.value for kind in Kind] == list(range(CLASSES.num_classes))
    assert len(set(CLASSES.colors)) == CLASSES.num_classes


def test_scenes_do_not_depend_on_order_threads_or_ranges() -> None:
    dataset = streets()
    expected = [fingerprint(dataset, index) for index in range(12)]
    assert len(set(expected)) == 12
    shuffled = {index: fingerprint(dataset, index) for index in (5, 11, 0, 3, 3, 9, 1, 2, 10, 4, 8, 7, 6)}
    assert [shuffled[index] for index in range(12)] == expected
    assert [fingerprint(streets(first=4), index) for index in range(8)] == expected[4:]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda index: fingerprint(dataset, index), list(range(12)) * 2)) == expected * 2


def test_another_process_draws_the_same() -> None:
    dataset = streets()
    dataset.image(3)  # a filled cache has to travel, or stay behind, without harm
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.starmap(fingerprint, [(dataset, index) for index in (3, 0, 7)])
    assert theirs == [fingerprint(dataset, index) for index in (3, 0, 7)]


def test_global_state_is_neither_used_nor_touched() -> None:
    threads = cv2.getNumThreads()
    before = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the point is that nobody reads it
        cv2.setRNGSeed(seed)
        cv2.setNumThreads(seed)
        before.append([fingerprint(streets(), index) for index in range(6)])
    after = random.random(), np.random.random()  # noqa: NPY002
    cv2.setNumThreads(threads)
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert before[0] == before[1]
    assert after == (random.random(), np.random.random())  # noqa: NPY002


def test_seeds_and_numbers_differ() -> None:
    prints = {fingerprint(streets(seed=seed), index) for seed in range(4) for index in range(4)}
    assert len(prints) == 16


def test_scenes_are_drawn_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counting(seed: int, number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(number)
        return np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)

    monkeypatch.setattr(synthetic, "render", counting)
    monkeypatch.setattr(synthetic, "CACHE_BYTES", 2 * 4 * 96 * 128)  # two scenes
    dataset = streets(first=10)
    for index in (0, 1, 0, 2, 0, 1):
        dataset.image(index)
        dataset.label(index)
    assert drawn == [10, 11, 12, 11]
    monkeypatch.setattr(synthetic, "CACHE_BYTES", 1)  # larger than any cache: still one drawing a pair
    single = streets()
    for index in (0, 1):
        single.image(index)
        single.label(index)
    assert drawn[4:] == [0, 1]


def test_writing_into_the_arrays_changes_nothing() -> None:
    dataset = streets()
    expected = fingerprint(dataset, 0)
    dataset.image(0)[:] = 0
    dataset.label(0)[:] = 0
    assert fingerprint(dataset, 0) == expected


def test_pickle() -> None:
    dataset = streets(seed=3, first=5, count=9)
    copy = pickle.loads(pickle.dumps(dataset))
    assert (len(copy), copy.name(2), fingerprint(copy, 2)) == (9, dataset.name(2), fingerprint(dataset, 2))


def test_same_scene_at_every_size() -> None:
    small, large = streets(), streets(size=(288, 384))
    for index in range(10):
        # the middle of a small pixel is the middle of the 3 x 3 large ones
        agreement = (small.label(index) == large.label(index)[1::3, 1::3]).mean()
        assert agreement > 0.97, index
        shrunk = cv2.resize(large.image(index), (128, 96), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(shrunk - small.image(index)).mean() < 12, index


def test_wider_picture_shows_the_same_middle() -> None:
    for index in range(6):
        middle = streets(size=(96, 256)).label(index)[:, 64:-64]
        assert (middle == streets().label(index)).mean() > 0.99


def test_long_tail(labels: np.ndarray) -> None:
    pixels = np.bincount(labels.ravel(), minlength=CLASSES.num_classes)
    assert pixels.min() > 0
    assert 100 <= pixels.max() / pixels.min() <= 600
    assert CLASSES.tail is not None
    tail = [CLASSES.names.index(name) for name in CLASSES.tail]
    # the rule for data sets that name no tail: less than a fifth of the uniform share
    assert tail == np.flatnonzero(pixels < pixels.sum() / CLASSES.num_classes / 5).tolist()
    rarest = [CLASSES.names.index(name) for name in ("pedestrian", "traffic sign", "cyclist")]
    images = [(labels == rare).any(axis=(1, 2)).mean() for rare in rarest]
    assert all(0.06 < share < 0.4 for share in images)


def test_rare_things_are_large_enough_to_be_known(labels: np.ndarray) -> None:
    for rare in (Kind.PEDESTRIAN, Kind.TRAFFIC_SIGN, Kind.CYCLIST):
        counts = (labels == rare).sum(axis=(1, 2))
        assert np.median(counts[counts > 0]) >= 32, rare


def test_labels_explain_their_image() -> None:
    """The share of the colour variance between classes is larger for a scene's own label than for another's."""
    dataset = streets()

    def explained(image: np.ndarray, label: np.ndarray) -> float:
        pixels, classes = image.reshape(-1, 3).astype(float), label.ravel()
        inside = sum(
            ((pixels[classes == k] - pixels[classes == k].mean(axis=0)) ** 2).sum() for k in np.unique(classes)
        )
        return float(1 - inside / ((pixels - pixels.mean(axis=0)) ** 2).sum())

    own = [explained(dataset.image(i), dataset.label(i)) for i in range(16)]
    other = [explained(dataset.image(i), dataset.label(i + 1)) for i in range(16)]
    assert np.mean(own) > np.mean(other) + 0.1
