"""``data.cache``: images and labels decoded once and kept as memory-mapped bytes.

One file per image and per label, named by a hash of all it depends on: path, size and time of
change of the source, ``data.resize`` and, for labels, the classes. So a changed source is decoded
anew, splits and folds share what they have in common, an interrupted build continues where it was,
and processes that build at the same time write the same bytes.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evenseg.data.check import Progress, in_parallel
from evenseg.data.dataset import SUBCLASS, Dataset, DataSplits
from evenseg.data.folder import FolderDataset
from evenseg.data.image_io import read_size
from evenseg.data.resize import Resize, resized_shape
from evenseg.data.subclasses import SubclassFiles
from evenseg.errors import InputError

_HEADER = struct.Struct("<4I")  # height, width, channels (0: none), bytes per value; then the pixels
_DTYPES: dict[int, np.dtype] = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}
_VERSION = 1  # raise when decoding or resizing changes its results
_ABANDONED = 3600.0  # seconds after which a temporary file is taken to be a killed process's


def cache_splits(splits: DataSplits, folder: Path, progress: Progress | None = None) -> DataSplits:
    """The same data, read from the cache in ``folder``, which is filled first.

    Files that are read again and again are cached: those of ``labeled``, ``unlabeled``, ``pseudo_labeled``,
    ``val``, ``holdout`` and ``subclasses``.

    Raises:
        InputError: the folder cannot be written or the disk is too small.
    """

    def cached(dataset: Dataset | None) -> Dataset | None:
        return CachedDataset(dataset, folder) if isinstance(dataset, FolderDataset) else dataset

    labeled = cached(splits.labeled)
    assert labeled is not None
    unlabeled, pseudo_labeled = cached(splits.unlabeled), cached(splits.pseudo_labeled)
    val, holdout = cached(splits.val), cached(splits.holdout)
    every: list[object] = [labeled, unlabeled, pseudo_labeled, val, holdout]
    subclasses = splits.subclasses
    if subclasses is not None and isinstance(subclasses.read, SubclassFiles):
        subclasses = subclasses._replace(read=CachedSubclasses(subclasses.read, folder))
        every.append(subclasses.read)
    fill_cache([each for each in every if isinstance(each, (CachedDataset, CachedSubclasses))], progress)
    return splits._replace(
        labeled=labeled,
        unlabeled=unlabeled,
        pseudo_labeled=pseudo_labeled,
        val=val,
        holdout=holdout,
        subclasses=subclasses,
    )


class CachedDataset:
    """A ``FolderDataset`` read from its cache: equal arrays, mapped into memory. What is not cached is decoded.

    Args:
        dataset: the files.
        folder: of the cache; any number of data sets may share it.
    """

    def __init__(self, dataset: FolderDataset, folder: Path) -> None:
        self.dataset = dataset
        self.folder = folder
        self.classes = dataset.classes
        meaning = (dataset.classes.num_classes, dataset.classes.ignore_index)
        files = [dataset.files(index) for index in range(len(dataset))]
        self.image_files = [self._file("image", each[0], ()) for each in files]
        self.label_files = [self._file("label", each[1], meaning) if len(each) > 1 else None for each in files]

    def _file(self, kind: str, source: Path, meaning: tuple[int | None, ...]) -> Path | None:
        return _file(self.folder, kind, source, self.dataset.resize, meaning)

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> np.ndarray:
        """Image, (H, W, 3) uint8 RGB; writing to it changes nothing in the cache."""
        cached = _load(self.image_files[index])
        return self.dataset.image(index) if cached is None else cached

    def label(self, index: int) -> np.ndarray | None:
        """Label map, (H, W) uint8 or uint16, or None without one."""
        cached = _load(self.label_files[index])
        return self.dataset.label(index) if cached is None else cached

    def name(self, index: int) -> str:
        """Path of the image as written in the list."""
        return self.dataset.name(index)

    def missing(self) -> list[_Missing]:
        """What is not in the cache, with the bytes that it will take (0 where the header is broken)."""
        source, missing = self.dataset, []
        depth = 2 if self.classes.num_classes > 255 else 1
        for index, (image, label) in enumerate(zip(self.image_files, self.label_files, strict=True)):
            image_due = image is not None and _load(image) is None
            label_due = label is not None and _load(label) is None
            if not (image_due or label_due):
                continue
            try:
                height, width = resized_shape(*read_size(source.files(index)[0]), source.resize)
            except InputError:
                height = width = 0
            if image_due and image is not None:
                missing.append(_Missing(image, partial(source.image, index), height * width * 3))
            if label_due and label is not None:
                missing.append(_Missing(label, partial(source.label, index), height * width * depth))
        return missing


class CachedSubclasses:
    """Subclass maps read from their cache, as a ``CachedDataset`` reads label maps.

    Args:
        maps: the files.
        folder: of the cache.
    """

    def __init__(self, maps: SubclassFiles, folder: Path) -> None:
        self.maps = maps
        self.folder = folder
        self.cached = [_file(folder, SUBCLASS, file, None, (maps.num_subclasses,)) for file in maps.files]

    def __call__(self, index: int) -> np.ndarray:
        """The (H, W) map of a labeled image."""
        cached = _load(self.cached[index])
        return self.maps(index) if cached is None else cached

    def missing(self) -> list[_Missing]:
        """See ``CachedDataset``."""
        depth = 2 if self.maps.num_subclasses > 255 else 1
        return [
            _Missing(cached, partial(self.maps, index), math.prod(read_size(self.maps.files[index])) * depth)
            for index, cached in enumerate(self.cached)
            if cached is not None and _load(cached) is None
        ]


class _Missing(NamedTuple):
    file: Path
    decode: Callable[[], np.ndarray | None]
    size: int  # bytes


def _file(folder: Path, kind: str, source: Path, resize: Resize, meaning: tuple[int | None, ...]) -> Path | None:
    """Where the pixels of a source belong; None for a source that is not there."""
    try:
        state = source.stat()
    except OSError:
        return None
    facts = (_VERSION, kind, os.path.abspath(source), state.st_size, state.st_mtime_ns, resize, meaning)
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    return folder / name[:2] / f"{name}.raw"


def fill_cache(datasets: Sequence[CachedDataset | CachedSubclasses], progress: Progress | None = None) -> None:
    """Decode what the cache does not hold yet. What cannot be decoded is left out.

    Processes that do so at the same time share the work.

    Raises:
        InputError: the folder cannot be written or the disk is too small.
    """
    missing = list({each.file: each for dataset in datasets for each in dataset.missing()}.values())
    if not missing:
        return
    folder = datasets[0].folder
    _make_room(folder, sum(each.size for each in missing))
    random.Random(os.getpid()).shuffle(missing)  # so that processes do not all begin with the same image

    def add(each: _Missing) -> None:
        if _load(each.file) is not None:  # another process was here
            return
        try:
            pixels = each.decode()
        except InputError:  # told when it is drawn, if ever
            return
        if pixels is not None:
            _write(each.file, pixels)

    in_parallel(add, missing, "images and labels to cache", progress)


def _make_room(folder: Path, needed: int) -> None:
    """Create the folder, remove what killed processes left there, and see that the disk is large enough."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*/*.tmp"):
            if time.time() - file.stat().st_mtime > _ABANDONED:
                file.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _unwritable(folder, error) from None
    if free < needed:
        raise InputError(
            f"{folder}: data.cache needs {needed / 2**30:.1f} GiB there and {free / 2**30:.1f} GiB are free; "
            "free some, set data.resize smaller, or set data.cache=false"
        )


def _write(file: Path, pixels: np.ndarray) -> None:
    """Write a file, header and pixels, in one piece or not at all."""
    temporary = None
    try:
        file.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            stream.write(_HEADER.pack(*pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 0, pixels.itemsize))
            stream.write(np.ascontiguousarray(pixels).data)
        os.replace(temporary, file)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise _unwritable(file, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror}); make room or give access, or set data.cache=false"
    )


def _load(file: Path | None) -> np.ndarray | None:
    """The pixels of a cache file, mapped copy-on-write; None where there is none, or not a whole one."""
    if file is None:
        return None
    try:
        with open(file, "rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        height, width, channels, depth = _HEADER.unpack_from(mapped)
        shape = (height, width, channels) if channels else (height, width)
        pixels: np.ndarray = np.frombuffer(mapped, _DTYPES[depth], offset=_HEADER.size).reshape(shape)
    except (OSError, ValueError, KeyError, struct.error):
        return None
    return pixels
