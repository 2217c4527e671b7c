"""``dataset: synthetic``: scenes drawn on demand, a few of them labeled."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from evenseg.config import DataConfig
from evenseg.data.check import Progress, attempt, in_parallel, raise_faults, unequal_sizes
from evenseg.data.dataset import Dataset, DataSplits, Subset
from evenseg.data.image_io import decode_label
from evenseg.data.labels import count_classes, to_internal
from evenseg.data.lists import Entry, format_line
from evenseg.data.memory import Memory, memory_file
from evenseg.data.pseudo_labeled import KEY as PSEUDO_LABELED
from evenseg.data.pseudo_labeled import Relabeled, pseudo_label_classes, read_pseudo_labeled
from evenseg.data.splits import draw, fingerprint, is_amount, labeled_count, missing_class_warnings, withhold
from evenseg.data.subclasses import Labeled, read_subclasses
from evenseg.data.synthetic import SyntheticStreets
from evenseg.errors import InputError

# Where the scenes of each list start; far apart, so that no count of images reaches the next.
_FIRST = {"train": 0, "val": 10_000_000, "test": 20_000_000}
_LABELED = "1/16"


def build_synthetic(
    config: DataConfig,
    *,
    seed: int,
    cache_dir: Path,
    progress: Progress | None,
    needs_unlabeled: bool,
    holdout: int,
) -> DataSplits:
    """``train_images`` scenes, ``labeled`` of them (default 1/16) labeled, and others to score; see ``build_data``."""
    train = _streets(config, seed, "train", config.train_images)
    amount = _amount(config, needs_unlabeled=needs_unlabeled)
    counts = _counts(train, cache_dir, progress)
    drawn = draw([train.name(index) for index in range(len(train))], counts, amount, fold=config.fold)
    datasets: dict[str, Dataset] = {}
    pseudo_labeled = _pseudo_labeled_entries(config, train, drawn)
    if pseudo_labeled:
        folder = Path(os.path.expanduser(str(config.pseudo_labeled))).parent
        datasets[PSEUDO_LABELED] = _pseudo_labeled(pseudo_labeled, folder, train, progress)
    if needs_unlabeled:
        datasets["unlabeled"] = Subset(train, sorted(set(range(len(train))) - set(drawn)))
    if holdout:
        drawn_names = [train.name(index) for index in drawn]
        withheld = [drawn[place] for place in withhold(drawn_names, counts[drawn], holdout, fold=config.fold)]
        datasets["holdout"] = Subset(train, withheld)
        drawn = [index for index in drawn if index not in withheld]
    datasets["labeled"] = Subset(train, drawn)
    for key in ("val", "test"):
        datasets[key] = scored_synthetic(config, key, seed=seed, cache_dir=cache_dir, progress=progress)
    names = {key: [dataset.name(index) for index in range(len(dataset))] for key, dataset in datasets.items()}
    split_sha256 = {key: fingerprint(each) for key, each in names.items()}
    subclasses = None
    lines: list[str] = []
    if config.subclasses is not None:
        state = [_generation(), seed, *config.size]
        labeled = Labeled(datasets["labeled"], split_sha256["labeled"], None, lambda name: name, lambda index: state)
        subclasses, lines = read_subclasses(config.subclasses, Path(), labeled, cache_dir=cache_dir, progress=progress)
    return DataSplits(
        classes=train.classes,
        labeled=datasets["labeled"],
        unlabeled=datasets.get("unlabeled"),
        val=datasets["val"],
        test=datasets["test"],
        class_frequency=counts[drawn].sum(axis=0),
        class_presence=counts[drawn] > 0,
        split_sha256=split_sha256,
        lists={
            **names,
            **({PSEUDO_LABELED: list(map(format_line, pseudo_labeled))} if pseudo_labeled else {}),
            **({"subclasses": lines} if lines else {}),
        },
        warnings=missing_class_warnings(train.classes.names, counts[drawn]),
        holdout=datasets.get("holdout"),
        pseudo_labeled=datasets.get(PSEUDO_LABELED),
        subclasses=subclasses,
    )


def scored_synthetic(
    config: DataConfig,
    key: str,
    *,
    seed: int,
    cache_dir: Path,  # nothing is checked, nothing remembered
    progress: Progress | None,
) -> SyntheticStreets:
    """The scenes of ``val`` or ``test`` alone; see ``build_scored``."""
    return _streets(config, seed, key, config.val_images if key == "val" else config.test_images)


def _streets(config: DataConfig, seed: int, key: str, count: int) -> SyntheticStreets:
    return SyntheticStreets(seed=seed, first=_FIRST[key], count=count, size=config.size)


def _amount(config: DataConfig, *, needs_unlabeled: bool) -> int:
    labeled = _LABELED if config.labeled is None else config.labeled
    if not is_amount(labeled):
        raise InputError(
            f"data.labeled: {labeled!r} is no fraction or count, and data.dataset=synthetic knows no lists; write 1/16"
        )
    amount = labeled_count(labeled, config.train_images)
    if needs_unlabeled and amount == config.train_images:
        raise InputError(
            f"data.labeled: {labeled} leaves none of the {amount} data.train_images unlabeled, but the method learns "
            "from unlabeled images; label fewer, or choose method=supervised"
        )
    return amount


def _pseudo_labeled_entries(config: DataConfig, train: SyntheticStreets, drawn: list[int]) -> list[Entry]:
    """The entries of ``data.pseudo_labeled``, whose images are unlabeled scenes."""
    if config.pseudo_labeled is None:
        return []
    entries = read_pseudo_labeled(config.pseudo_labeled, Path())
    scenes, labeled = {train.name(index) for index in range(len(train))}, {train.name(index) for index in drawn}
    for entry in entries:
        if entry.image in labeled:
            raise InputError(f"{entry.where}: {entry.image} has a label already; remove it from data.{PSEUDO_LABELED}")
        if entry.image not in scenes:
            raise InputError(
                f"{entry.where}: {entry.image} is none of the unlabeled scenes, {train.name(0)} to "
                f"{train.name(len(train) - 1)} without those of data.labeled; remove it from data.{PSEUDO_LABELED}"
            )
    return entries


def _pseudo_labeled(
    entries: list[Entry], folder: Path, train: SyntheticStreets, progress: Progress | None
) -> Relabeled:
    """Unlabeled scenes with label files, relative to a folder or absolute, which are decoded to see that they fit."""
    classes = pseudo_label_classes(train.classes)

    def examine(entry: Entry) -> Path:
        file = folder / str(entry.label)
        height, width = to_internal(decode_label(file), classes, file).shape
        if (height, width) != train.size:
            raise unequal_sizes(file, (height, width), entry.image, train.size)
        return file

    files, faults = attempt(examine, entries, "pseudo-labels", progress)
    raise_faults(faults)
    places = {train.name(index): index for index in range(len(train))}
    return Relabeled(Subset(train, [places[entry.image] for entry in entries]), files, classes)


def _counts(streets: SyntheticStreets, cache_dir: Path, progress: Progress | None) -> np.ndarray:
    """(n, C) int64: pixels of each class in each scene; remembered, as drawing hundreds of scenes takes seconds."""
    memory = Memory(memory_file(cache_dir, "synthetic", streets.seed, streets.size))
    state = [_generation()]

    def count(index: int) -> list[int]:
        known = memory.recall(streets.name(index), state)
        if known is None:
            known = count_classes(streets.label(index), streets.classes.num_classes).tolist()
            memory.remember(streets.name(index), state, known)
        return known

    counts = in_parallel(count, range(len(streets)), "synthetic labels", progress)
    memory.save()
    return np.array(counts, dtype=np.int64)


def _generation() -> int:
    """Changes with whatever the scenes depend on besides their arguments: the code that draws them."""
    digest = hashlib.sha256(f"{cv2.__version__} {np.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("synthetic*.py")):
        digest.update(source.read_bytes())
    return int(digest.hexdigest()[:12], 16)
