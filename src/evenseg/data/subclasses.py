"""``data.subclasses``: a folder with a finer label map for every labeled image, which divides its classes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evenseg.data.check import Progress, in_parallel, raise_faults
from evenseg.data.classes import Classes
from evenseg.data.dataset import Dataset, Subclasses
from evenseg.data.image_io import decode_label
from evenseg.data.memory import Memory, file_state, memory_file
from evenseg.data.resize import Resize
from evenseg.errors import InputError
from evenseg.types import ignore_label

SIDECAR = "subclasses.json"
_AGAIN = "cluster again (evenseg cluster), or name another folder in data.subclasses"


class Sidecar(NamedTuple):
    """What ``subclasses.json`` says.

    classes: names. counts: subclasses of each. labeled_sha256: fingerprint of the list of labeled images. resize: the
    ``data.resize`` at which the maps lie on them. consistent: every pixel's subclass belongs to its class, and ignored
    pixels are ignored. maps: by image, as the list names it, the map's file relative to the folder and its SHA-256.
    made_with: whatever else the maps depend on.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    labeled_sha256: str
    resize: Resize
    consistent: bool
    maps: dict[str, tuple[str, str]]
    made_with: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """As JSON, with a fingerprint of everything."""
        plain: dict[str, Any] = json.loads(json.dumps(self._asdict()))
        return {**plain, "sha256": _digest(plain)}

    @property
    def num_subclasses(self) -> int:
        """Of all classes together."""
        return sum(self.counts)


def read_sidecar(folder: Path) -> Sidecar:
    """The sidecar of a folder of subclass maps. Raises InputError where there is none, or not as it was written."""
    path = folder / SIDECAR
    if not folder.is_dir():
        raise InputError(f"data.subclasses: {folder}: no such folder; give the --output of evenseg cluster")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sha256 = content.pop("sha256")
        resize = content["resize"]
        sidecar = Sidecar(
            tuple(content["classes"]),
            tuple(int(count) for count in content["counts"]),
            content["labeled_sha256"],
            (int(resize[0]), int(resize[1])) if isinstance(resize, list) else resize,
            bool(content["consistent"]),
            {image: (file, digest) for image, (file, digest) in content["maps"].items()},
            content["made_with"],
        )
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; give the --output of evenseg cluster, or run it again if it did not finish"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise InputError(f"{path}: damaged; {_AGAIN}") from None
    if _digest(content) != sha256 or len(sidecar.counts) != len(sidecar.classes) or min(sidecar.counts, default=0) < 1:
        raise InputError(f"{path}: was changed since it was written; {_AGAIN}")
    return sidecar


class SubclassFiles:
    """Subclass maps in files.

    Args:
        files: one for each labeled image.
        num_subclasses: of all classes together.
    """

    def __init__(self, files: Sequence[Path], num_subclasses: int) -> None:
        self.files = tuple(files)
        self.num_subclasses = num_subclasses

    def __call__(self, index: int) -> np.ndarray:
        """The (H, W) map of a labeled image, uint8 or uint16. Raises InputError naming the file."""
        file, ignored = self.files[index], ignore_label(self.num_subclasses)
        values = decode_label(file)
        highest = int(values.max(where=values != ignored, initial=0))
        if highest >= self.num_subclasses:
            raise InputError(
                f"{file}: has the id {highest}, and there are {self.num_subclasses} subclasses (0..."
                f"{self.num_subclasses - 1}, ignored: {ignored}); {_AGAIN}"
            )
        return values.astype(np.uint8 if ignored == 255 else np.uint16, copy=False)


class Labeled(NamedTuple):
    """The labeled images that subclass maps are to lie on.

    dataset: with their labels. sha256: fingerprint of their list. resize: ``data.resize``. canonical: the name of an
    image that is equal on every machine. state: of an image's label, which changes when the label does.
    """

    dataset: Dataset
    sha256: str
    resize: Resize
    canonical: Callable[[str], str]
    state: Callable[[int], list[int]]


def read_subclasses(
    value: str, root: Path, labeled: Labeled, *, cache_dir: Path, progress: Progress | None
) -> tuple[Subclasses, list[str]]:
    """Subclass maps of the labeled images, all of them looked at.

    Args:
        value: ``data.subclasses``, a folder below ``root``, or else a path of its own.
        root: of the data.
        labeled: what they belong to.
        cache_dir: where it is remembered which maps were sound.
        progress: called with done, total and what is being checked.

    Returns:
        The maps, and a line for each with its image and fingerprint.

    Raises:
        InputError: subclasses of other classes, another list or size; a map that is missing, was changed, or does not
            fit its label.
    """
    own = Path(os.path.expanduser(value))
    folder = root / own if (root / own).is_dir() else own
    sidecar = read_sidecar(folder)
    _refuse_others(folder / SIDECAR, sidecar, labeled)
    known = {labeled.canonical(image): each for image, each in sidecar.maps.items()}
    images = [labeled.dataset.name(index) for index in range(len(labeled.dataset))]
    found: list[tuple[str, str]] = []
    for image in images:
        if (each := known.get(labeled.canonical(image))) is None:
            raise InputError(f"{folder / SIDECAR}: names no map of {image}; {_AGAIN}")
        found.append(each)
    files = SubclassFiles([folder / file for file, _ in found], sidecar.num_subclasses)
    classes = labeled.dataset.classes
    subject = os.path.abspath(folder), os.path.abspath(root), classes.num_classes, classes.ignore_index, labeled.resize
    memory = Memory(memory_file(cache_dir, "subclasses", *subject, sidecar.counts, sidecar.consistent))
    _check(files, [digest for _, digest in found], images, sidecar, labeled, memory, progress)
    lines = [f"{image}\t{digest}" for image, (_, digest) in zip(images, found, strict=True)]
    return Subclasses(np.array(sidecar.counts, dtype=np.int64), files), lines


def _refuse_others(path: Path, sidecar: Sidecar, labeled: Labeled) -> None:
    if sidecar.classes != labeled.dataset.classes.names:
        theirs, ours = ", ".join(sidecar.classes), ", ".join(labeled.dataset.classes.names)
        raise InputError(f"{path}: divides the classes {theirs}, and the run has {ours}; {_AGAIN}")
    if sidecar.labeled_sha256 != labeled.sha256:
        raise InputError(
            f"{path}: belongs to another list of labeled images ({sidecar.labeled_sha256[:12]} there, "
            f"{labeled.sha256[:12]} here); cluster with a run on this list, or train with its data.labeled, data.fold "
            "and health.holdout"
        )
    if sidecar.resize != labeled.resize:
        raise InputError(
            f"{path}: the maps are of data.resize={json.dumps(sidecar.resize)}, and the run has "
            f"{json.dumps(labeled.resize)}; {_AGAIN}"
        )


def _check(
    files: SubclassFiles,
    digests: Sequence[str],
    images: Sequence[str],
    sidecar: Sidecar,
    labeled: Labeled,
    memory: Memory,
    progress: Progress | None,
) -> None:
    """Raises InputError with the first map that is not as it was written or does not fit, and the number of others."""
    classes = labeled.dataset.classes
    table = parents(sidecar.counts, classes)

    def examine(index: int) -> str | None:
        file = files.files[index]
        name, state = f"{os.path.abspath(file)} {digests[index]}", file_state(file)
        state = [*state, *labeled.state(index)] if state else []
        if memory.recall(name, state) is not None:
            return None
        try:
            values, label = files(index), labeled.dataset.label(index)
        except InputError as error:
            return str(error)
        if hashlib.sha256(file.read_bytes()).hexdigest() != digests[index]:
            return f"{file}: was changed since it was written; {_AGAIN}"
        assert label is not None
        if values.shape != label.shape:
            sizes = [f"{width}x{height}" for height, width in (values.shape, label.shape)]
            return f"{file}: has {sizes[0]} pixels, the label of {images[index]} {sizes[1]} (width x height); {_AGAIN}"
        if sidecar.consistent and (wrong := int((table[values] != label).sum())):
            return (
                f"{file}: the subclass of {wrong:,} pixels does not belong to their class in the label of "
                f"{images[index]}; {_AGAIN}"
            )
        memory.remember(name, state, [1])
        return None

    outcomes = in_parallel(examine, range(len(images)), "subclass maps", progress)
    memory.save()
    raise_faults([fault for fault in outcomes if fault is not None])


def parents(counts: Sequence[int], classes: Classes) -> np.ndarray:
    """The class of each subclass id, (65536,) uint16; the ignore label of the classes for every other value."""
    table: np.ndarray = np.full(65536, classes.ignore_label, np.uint16)
    table[: sum(counts)] = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    return table


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
