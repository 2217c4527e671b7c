"""Predictions on disk: classes and confidence codes of some images a file, compressed without loss.

A shard is a plain npz file, ``label_0 code_0 label_1 ...``, with the histogram of its images. Which images it holds
follows from its number, so that a killed pass goes on after the last whole shard and any number of processes writes
the same files. At most three bytes per pixel before compression.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from evenseg.errors import InputError
from evenseg.functional.confidence_codes import CODES, code_histogram

IMAGES = 16  # in a shard
LEVEL = 1  # of deflate: higher ones take twice the time for a hundredth of the space
PIXELS_AT_ONCE = 1 << 18  # that are counted
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal content makes equal files


class Predicted(NamedTuple):
    """What is stored of an image: (H, W) uint8 or uint16 classes, (H, W) uint16 codes. fault: why there is nothing, and
    the arrays are empty."""

    label: np.ndarray
    code: np.ndarray
    fault: str = ""

    @classmethod
    def nothing(cls, fault: str) -> Predicted:
        """Of an image that cannot be read."""
        return cls(np.zeros((0, 0), np.uint8), np.zeros((0, 0), np.uint16), fault)


class Shards(NamedTuple):
    """The shards of ``images`` images with ``num_classes`` classes in a folder."""

    folder: Path
    images: int
    num_classes: int

    def __len__(self) -> int:
        return -(-self.images // IMAGES)

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:06d}.npz"

    def members(self, shard: int) -> range:
        """The images in a shard, by position."""
        return range(shard * IMAGES, min((shard + 1) * IMAGES, self.images))

    def write(self, shard: int, predictions: Iterable[Predicted]) -> None:
        """Writes a shard, image by image, under a temporary name.

        Raises:
            InputError: the disk is full or the folder cannot be written.
        """
        path = self.path(shard)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        histogram = torch.zeros(self.num_classes, CODES, dtype=torch.int64)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                with zipfile.ZipFile(file, "w") as archive:
                    for place, each in enumerate(predictions):
                        _add(archive, f"label_{place}", each.label)
                        _add(archive, f"code_{place}", each.code)
                        if each.fault:
                            _add(archive, f"fault_{place}", np.array([each.fault]))
                        histogram += histogram_of(each, self.num_classes)
                    occupied = histogram.flatten().nonzero().squeeze(1)
                    _add(archive, "histogram_place", occupied.numpy())
                    _add(archive, "histogram_count", histogram.flatten()[occupied].numpy())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); mend that and run the same command to go on"
            ) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def read(self, shard: int) -> Iterator[tuple[int, Predicted]]:
        """(position, prediction) of the images of a shard, one at a time.

        Raises:
            InputError: the file is missing or damaged.
        """
        with _opened(self.path(shard)) as archive:
            for place, image in enumerate(self.members(shard)):
                fault = str(archive[f"fault_{place}"][0]) if f"fault_{place}" in archive else ""
                yield image, Predicted(archive[f"label_{place}"], archive[f"code_{place}"], fault)

    def faults(self) -> dict[int, str]:
        """What is wrong with the images that have no prediction, by number."""
        found = {}
        for shard in range(len(self)):
            with _opened(self.path(shard)) as archive:
                for place, image in enumerate(self.members(shard)):
                    if f"fault_{place}" in archive:
                        found[image] = str(archive[f"fault_{place}"][0])
        return found

    def histogram(self, shards: Iterable[int]) -> Tensor:
        """(C, CODES) int64, pixels by class and code of some shards."""
        total = torch.zeros(self.num_classes * CODES, dtype=torch.int64)
        for shard in shards:
            with _opened(self.path(shard)) as archive:
                place, count = archive["histogram_place"], archive["histogram_count"]
                total[torch.from_numpy(place)] += torch.from_numpy(count)
        return total.view(self.num_classes, CODES)


def histogram_of(predicted: Predicted, num_classes: int) -> Tensor:
    """(C, CODES) int64 of one image."""
    total = torch.zeros(num_classes, CODES, dtype=torch.int64)
    for start in range(0, predicted.label.size, PIXELS_AT_ONCE):
        label, code = (
            torch.from_numpy(each.reshape(-1)[start : start + PIXELS_AT_ONCE].astype(np.int32))
            for each in (predicted.label, predicted.code)
        )
        total += code_histogram(code, label, num_classes)
    return total


def _add(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    info = zipfile.ZipInfo(f"{name}.npy", _LONG_AGO)
    info.compress_type, info._compresslevel = zipfile.ZIP_DEFLATED, LEVEL  # type: ignore[attr-defined]
    with archive.open(info, "w", force_zip64=True) as member:
        npy.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An npz file; whatever goes wrong while it is read becomes one line that names it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"{path}: missing or damaged; delete it and run the same command to make it anew") from None
