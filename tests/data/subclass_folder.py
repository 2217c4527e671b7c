"""A folder of subclass maps, as the stage ``cluster`` leaves it, of random subclasses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evenseg.data.dataset import DataSplits
from evenseg.data.subclasses import SIDECAR, Sidecar

from .tiny_data import save


def subclasses_of(label: np.ndarray, counts: Sequence[int], seed: int = 0) -> np.ndarray:
    """Of each pixel one of its class, drawn; ignored where the label is."""
    total = sum(counts)
    ignored, rng = 255 if total <= 255 else 65535, np.random.default_rng(seed)
    found = np.full(label.shape, ignored, np.uint8 if total <= 255 else np.uint16)
    first = 0
    for number, count in enumerate(counts):
        here = label == number
        found[here] = first + rng.integers(0, count, int(here.sum()))
        first += count
    return found


def write_subclasses(folder: Path, splits: DataSplits, counts: Sequence[int], /, **changes: object) -> Path:
    """Maps of all labeled images and their sidecar, fields of which are replaced."""
    maps = {}
    for index in range(len(splits.labeled)):
        label = splits.labeled.label(index)
        assert label is not None
        file = f"labels/{index}.png"
        path = save(folder / file, subclasses_of(label, counts, index))
        maps[splits.labeled.name(index)] = (file, hashlib.sha256(path.read_bytes()).hexdigest())
    sidecar = Sidecar(
        splits.classes.names, tuple(counts), splits.split_sha256["labeled"], None, True, maps, {"seed": 0}
    )
    (folder / SIDECAR).write_text(json.dumps(sidecar._replace(**changes).content()))
    return folder
