"""A tiny data set in files, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["road", "car", "sign"]


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_classes(root: Path, **content: object) -> Path:
    path = root / "classes.json"
    path.write_text(json.dumps({"names": NAMES, "ignore_index": 255} | content))
    return path


def random_image(index: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)


def random_label(index: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.random.default_rng(1000 + index).choice(np.array([0, 1, 2, 255], np.uint8), size)


def write_pairs(root: Path, count: int, *, folder: str = "train", first: int = 0) -> list[str]:
    """PNG images and labels below root/images/folder and root/labels/folder; the lines of their list."""
    lines = []
    for index in range(first, first + count):
        save(root / f"images/{folder}/{index:03d}.png", random_image(index))
        save(root / f"labels/{folder}/{index:03d}.png", random_label(index))
        lines.append(f"images/{folder}/{index:03d}.png labels/{folder}/{index:03d}.png")
    return lines


def write_list(root: Path, name: str, lines: list[str]) -> str:
    (root / name).write_text("".join(f"{line}\n" for line in lines))
    return name
