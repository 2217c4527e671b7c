"""``dataset: folder``: lists or folders of files, checked before the run starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evenseg.config import DataConfig
from evenseg.data.check import Checker, Progress, overlap, raise_faults
from evenseg.data.classes import Classes, load_classes
from evenseg.data.dataset import DataSplits
from evenseg.data.folder import FolderDataset
from evenseg.data.image_ids import image_id
from evenseg.data.leaks import refuse_labeled, refuse_leaks, transductive_warnings
from evenseg.data.lists import Entry, format_line, read_source
from evenseg.data.memory import Memory, file_state, memory_file
from evenseg.data.pseudo_labeled import KEY as PSEUDO_LABELED
from evenseg.data.pseudo_labeled import pseudo_label_classes, read_pseudo_labeled, with_label_files
from evenseg.data.split_lists import resolve
from evenseg.data.splits import draw, fingerprint, is_amount, labeled_count, missing_class_warnings, withhold
from evenseg.data.subclasses import Labeled, read_subclasses
from evenseg.errors import InputError


def build_folder(
    config: DataConfig,
    *,
    seed: int,  # files are the same for every seed
    cache_dir: Path,
    progress: Progress | None,
    needs_unlabeled: bool,
    holdout: int,
) -> DataSplits:
    """The data in ``data.root``; see ``build_data``."""
    check = _checker(config, cache_dir, progress)
    root, classes = check.root, check.classes
    given, config = config, _with_published_lists(config, root, cache_dir, needs_unlabeled)
    scored = {key: _scored_entries(config, key, root) for key in ("val", "test") if getattr(config, key) is not None}
    labeled, left = _labeled_entries(config, root, check)
    if config.labeled != given.labeled:
        labeled = _as_in_train(labeled, config, root)
    refuse_leaks(labeled, "labeled", scored, root)
    pseudo_labeled = _pseudo_labeled_entries(config, root, labeled, scored)
    unlabeled = _unlabeled_entries(config, root, labeled, left) if needs_unlabeled else None

    counts = check.pairs(labeled, "labeled images")
    withheld: list[Entry] = []
    if holdout:
        chosen = withhold([_canonical(entry, root) for entry in labeled], counts, holdout, fold=config.fold)
        withheld, rest = [labeled[index] for index in chosen], sorted(set(range(len(labeled))) - set(chosen))
        labeled, counts = [labeled[index] for index in rest], counts[rest]
        unlabeled = None if unlabeled is None else _without(unlabeled, withheld, root)
    for key, entries in scored.items():
        check.labels(entries, f"{key} labels")
    pseudo_classes = pseudo_label_classes(classes)
    if pseudo_labeled is not None:
        # one after the other: both may keep what they find in the same memory
        pseudo_check = _checker(config, cache_dir, progress, pseudo_classes)
        pseudo_files = with_label_files(pseudo_labeled, str(config.pseudo_labeled), check.root)
        pseudo_check.labels(pseudo_files, "pseudo-labels", resized=True)
    warnings = missing_class_warnings(classes.names, counts)
    if unlabeled is not None:
        warnings += _check_unlabeled(unlabeled, check, config.max_unreadable)
        warnings += transductive_warnings(unlabeled, scored, root)

    entries_of = {
        "labeled": labeled,
        "unlabeled": unlabeled,
        PSEUDO_LABELED: pseudo_labeled,
        **scored,
        "holdout": withheld or None,
    }
    lists = {key: entries for key, entries in entries_of.items() if entries is not None}
    datasets = {key: FolderDataset(root, entries, classes, resize=config.resize) for key, entries in lists.items()}
    if pseudo_labeled is not None:
        datasets[PSEUDO_LABELED] = FolderDataset(root, pseudo_files, pseudo_classes, resize=config.resize)
    split_sha256 = {key: fingerprint(_canonical(entry, root) for entry in entries) for key, entries in lists.items()}
    lines = {key: [format_line(entry) for entry in entries] for key, entries in lists.items()}
    subclasses = None
    if config.subclasses is not None:
        on = _labeled_images(datasets["labeled"], split_sha256["labeled"])
        subclasses, lines["subclasses"] = read_subclasses(
            config.subclasses, root, on, cache_dir=cache_dir, progress=progress
        )
    return DataSplits(
        classes=classes,
        labeled=datasets["labeled"],
        unlabeled=datasets.get("unlabeled"),
        val=datasets.get("val"),
        test=datasets.get("test"),
        class_frequency=counts.sum(axis=0),
        class_presence=counts > 0,
        split_sha256=split_sha256,
        lists=lines,
        warnings=warnings,
        holdout=datasets.get("holdout"),
        pseudo_labeled=datasets.get(PSEUDO_LABELED),
        subclasses=subclasses,
    )


def scored_folder(
    config: DataConfig,
    key: str,
    *,
    seed: int,  # as above
    cache_dir: Path,
    progress: Progress | None,
) -> FolderDataset:
    """``data.val`` or ``data.test`` alone; see ``build_scored``."""
    check = _checker(config, cache_dir, progress)
    if getattr(config, key) is None:
        raise InputError(f"data.{key} is not set; set it to a list or folder of labeled images")
    entries = _scored_entries(config, key, check.root)
    check.labels(entries, f"{key} labels")
    return FolderDataset(check.root, entries, check.classes, resize=config.resize)


def _checker(config: DataConfig, cache_dir: Path, progress: Progress | None, classes: Classes | None = None) -> Checker:
    root = data_root(config)
    classes = classes or load_classes(_classes_file(config, root))
    # What is known of a label depends on the classes and the size it is counted in.
    subject = os.path.abspath(root), classes.num_classes, classes.ignore_index, config.resize
    memory = Memory(memory_file(cache_dir, "folder", *subject))
    return Checker(root, classes, resize=config.resize, memory=memory, progress=progress)


def _scored_entries(config: DataConfig, key: str, root: Path) -> list[Entry]:
    return read_source(getattr(config, key), root, key=key, labeled=True, labels=config.labels)


def data_root(config: DataConfig) -> Path:
    """``data.root``, which exists. Raises InputError where it is not set, or no folder."""
    if config.root is None:
        raise InputError("data.root is not set; set it to the folder of the data, or choose data.dataset=synthetic")
    root = Path(os.path.expanduser(config.root))
    if not os.path.isdir(root):
        fault = "is no folder" if os.path.exists(root) else "does not exist"
        raise InputError(f"data.root: {root} {fault}; set it to the folder of the data")
    return root


def _classes_file(config: DataConfig, root: Path) -> Path:
    """``data.classes`` below the root, else as a path of its own; by default ``classes.json`` in the root."""
    if config.classes is None:
        return root / "classes.json"
    own = Path(os.path.expanduser(config.classes))
    return own if os.path.exists(own) and not os.path.exists(root / own) else root / own


def _with_published_lists(config: DataConfig, root: Path, cache_dir: Path, needs_unlabeled: bool) -> DataConfig:
    """Names of published lists become the files that are kept of them, where the lists are needed."""
    drawn = is_amount(config.labeled or "")
    needs_train = drawn or (needs_unlabeled and config.unlabeled is None)
    values = {"labeled": None if drawn else config.labeled, "train": config.train if needs_train else None}
    files = {key: resolve(str(value), root, cache_dir, key=key) for key, value in values.items() if value is not None}
    return config.model_copy(update=files)


def _as_in_train(labeled: Sequence[Entry], config: DataConfig, root: Path) -> list[Entry]:
    """The images of a published list with the paths that ``data.train`` has for them: labels may lie elsewhere."""
    if config.train is None:
        return list(labeled)
    try:
        train = read_source(config.train, root, key="train", labeled=True, labels=config.labels)
    except InputError:  # images alone; what else may be wrong is told by whoever needs the list
        return list(labeled)
    by_id: dict[str, Entry | None] = {}
    for entry in train:
        by_id[image_id(entry.image)] = None if image_id(entry.image) in by_id else entry
    return [by_id.get(image_id(entry.image)) or entry for entry in labeled]


def _labeled_entries(config: DataConfig, root: Path, check: Checker) -> tuple[list[Entry], list[Entry] | None]:
    """Labeled images, and what is left of ``data.train`` where they were drawn from it."""
    if config.labeled is None:
        raise InputError(
            "data.labeled is not set; set it to a list or folder, or to a fraction such as 1/16 of data.train"
        )
    if is_amount(config.labeled):
        return _draw(config.labeled, config, root, check)
    return read_source(str(config.labeled), root, key="labeled", labeled=True, labels=config.labels), None


def _draw(
    labeled: str | int | float, config: DataConfig, root: Path, check: Checker
) -> tuple[list[Entry], list[Entry]]:
    if config.train is None:
        raise InputError(
            f"data.labeled: {labeled} is to be drawn from data.train, which is not set; "
            "set it to the list or folder of all labeled images"
        )
    train = read_source(config.train, root, key="train", labeled=True, labels=config.labels)
    amount = labeled_count(labeled, len(train))
    counts = check.labels(train, "labels to draw from")
    drawn = draw([_canonical(entry, root) for entry in train], counts, amount, fold=config.fold)
    left = sorted(set(range(len(train))) - set(drawn))
    return [train[index] for index in drawn], [train[index]._replace(label=None) for index in left]


def _unlabeled_entries(
    config: DataConfig, root: Path, labeled: Sequence[Entry], left: list[Entry] | None
) -> list[Entry]:
    """``data.unlabeled``, else what is ``left`` by the draw, else ``data.train`` without the labeled images."""
    if config.unlabeled is not None:
        return read_source(config.unlabeled, root, key="unlabeled", labeled=False)
    if left is None and config.train is not None:
        taken = {_canonical(entry, root) for entry in labeled}
        train = read_source(config.train, root, key="train", labeled=False)
        left = [entry for entry in train if _canonical(entry, root) not in taken]
    if left:
        return left
    nothing_left = "" if left is None else " and nothing is left of data.train"
    raise InputError(
        f"data.unlabeled is not set{nothing_left}, but the method learns from unlabeled images; "
        "set it to a list or folder of images, or choose method=supervised"
    )


def _pseudo_labeled_entries(
    config: DataConfig, root: Path, labeled: Sequence[Entry], scored: dict[str, list[Entry]]
) -> list[Entry] | None:
    if config.pseudo_labeled is None:
        return None
    entries = read_pseudo_labeled(config.pseudo_labeled, root)
    refuse_leaks(entries, PSEUDO_LABELED, scored, root)
    refuse_labeled(entries, labeled, root)
    return entries


def _labeled_images(dataset: FolderDataset, sha256: str) -> Labeled:
    """What subclass maps have to lie on."""
    return Labeled(
        dataset,
        sha256,
        dataset.resize,
        lambda name: _canonical(Entry(name, None, ""), dataset.root),
        lambda index: file_state(dataset.files(index)[-1]),
    )


def _without(unlabeled: list[Entry], withheld: Sequence[Entry], root: Path) -> list[Entry]:
    """The unlabeled images but for those that are withheld from training, by whatever path they are listed."""
    both = {entry for entry, _ in overlap(unlabeled, withheld, root)}
    left = [entry for entry in unlabeled if entry not in both]
    if left:
        return left
    raise InputError(
        f"health.holdout: nothing is left of data.unlabeled without the {len(withheld)} images that are withheld; "
        "give more unlabeled images"
    )


def _canonical(entry: Entry, root: Path) -> str:
    """Path of the image below the root where it lies there, with forward slashes: equal on every machine."""
    path, base = Path(os.path.abspath(root / entry.image)), Path(os.path.abspath(root))
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def _check_unlabeled(unlabeled: Sequence[Entry], check: Checker, tolerated: int) -> list[str]:
    faults = check.headers(unlabeled, "unlabeled images")
    if len(faults) > tolerated:
        raise_faults(faults)
    return [f"unreadable, within data.max_unreadable={tolerated}: {fault}" for fault in faults]
