"""The first pass: what the network makes of every labeled image, stored cell by cell."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.errors import InputError
from evenseg.inference.ahead import map_ahead
from evenseg.inference.evaluate import to_images
from evenseg.inference.predict import Autocast, evaluating
from evenseg.networks.base import SegmentationNetwork
from evenseg.stages.cluster.grid import Grid
from evenseg.stages.pseudo_label.images import Images

Tap = Literal["decoder", "high", "low"]


class Cells(NamedTuple):
    """The cells of an image: feature (rows, columns, D) float16, float32 where that does not reach; label (rows,
    columns), the class at the centre."""

    feature: np.ndarray
    label: np.ndarray


class CellFiles(NamedTuple):
    """Cells of images by name in a folder."""

    folder: Path

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.folder / f"{name}.npz"

    def read(self, name: str) -> Cells:
        """Raises InputError where the file is missing or damaged."""
        path = self.path(name)
        try:
            with np.load(path, allow_pickle=False) as archive:
                return Cells(archive["feature"], archive["label"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            raise InputError(
                f"{path}: missing or damaged; delete it and run the same command to make it anew"
            ) from None

    def write(self, name: str, cells: Cells) -> None:
        """Writes a file in one piece or not at all. Raises InputError where that fails."""
        path = self.path(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                np.savez(file, feature=cells.feature, label=cells.label)
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); mend that and run the same command to go on"
            ) from None


class Features(NamedTuple):
    """What is taken of a network. tap: which feature. grid: of its cells, after ``pool`` x ``pool`` of them have been
    averaged, so that they are ``stride`` pixels long where the feature is finer."""

    network: SegmentationNetwork
    tap: Tap
    pool: int
    grid: Grid

    @classmethod
    def of(cls, network: SegmentationNetwork, tap: Tap, stride: int) -> Features:
        """Found out by a tiny image."""
        side = network.padded_size(1, 1)[0]
        device = next(network.parameters()).device
        with evaluating(network), torch.no_grad():
            along = network(torch.zeros(1, 3, side, side, device=device)).features[tap].shape[-1]
        pool = max(1, stride * along // side)
        return cls(network, tap, pool, Grid(side, along).pooled(pool))

    def __call__(self, image: Tensor, autocast: Autocast = nullcontext) -> Tensor:
        """(1, 3, H, W) in [0, 1] to (rows, columns, D) float16 on the CPU, without the cells of the padding; float32
        where numbers are too large for that."""
        with torch.no_grad(), autocast():
            feature = self.network(image).features[self.tap]
        # cells at the edge are the mean of those that there are
        pooled = F.avg_pool2d(feature.float(), self.pool, ceil_mode=True) if self.pool > 1 else feature.float()
        cells = pooled[0].permute(1, 2, 0).cpu().contiguous()
        half = cells.half()
        return half if bool(half.isfinite().all()) else cells


def store_features(
    files: CellFiles,
    images: Images,
    numbers: Sequence[int],
    features: Features,
    *,
    device: torch.device | str = "cpu",
    autocast: Autocast = nullcontext,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the cells of some images that are not there yet, one image in a pass: whatever the company, the same.

    Args:
        files: where to.
        images: with their labels as the truth.
        numbers: of the images of this process.
        features: what is taken.
        device, autocast: where and in which precision the network runs.
        progress: called with (images done, images of this process).

    Raises:
        InputError: an image that cannot be read, or whose features are not finite.
    """
    missing = [number for number in numbers if not files.path(images.names[number]).exists()]
    done, look = len(numbers) - len(missing), images.read
    assert look is not None

    def read(number: int) -> tuple[int, np.ndarray, np.ndarray]:
        label = images.truth(number)
        assert label is not None
        return number, look(number).resized, label

    with evaluating(features.network):
        for number, image, label in map_ahead(read, missing):
            feature = features(to_images([image], device), autocast).numpy()
            if not np.isfinite(feature).all():
                raise InputError(
                    f"{images.lines[number]}: the network's {features.tap} feature is not finite; cluster another "
                    "feature, or train the network again"
                )
            shape = feature.shape[0], feature.shape[1]
            files.write(images.names[number], Cells(feature, features.grid.cell_labels(label, shape)))
            done += 1
            if progress is not None:
                progress(done, len(numbers))
