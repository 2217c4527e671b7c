"""The pictures of a run as parts of the page: the same images through training, and what the student saw."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from evenseg.report.runs import Run
from evenseg.training.pictures import FOLDER

# What fits in the page: (steps, images of each step) of a run, from generous to none.
DETAILS = ((5, 4), (4, 3), (3, 2), (2, 1), (0, 0))


class Picture(NamedTuple):
    """An image of the page. uri: its data. alt: what a reader who cannot see it is told. below: shown under it."""

    uri: str
    alt: str
    caption: str
    below: Picture | None = None

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.uri) + (self.below.size if self.below else 0)


class Gallery(NamedTuple):
    """Pictures of one run. rows: through training, a row per validation image, the errors below the predictions.
    seen: what the student saw, each image with its pseudo-label."""

    label: str
    rows: list[list[Picture]]
    seen: list[list[Picture]]

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(picture.size for row in (*self.rows, *self.seen) for picture in row)


def galleries(runs: Sequence[Run], budget: int) -> list[Gallery]:
    """The pictures of all runs, as many as fit into so many bytes; runs without any are left out."""
    for steps, images in DETAILS:
        found = [gallery(run, steps, images) for run in runs]
        if sum(each.size for each in found) <= budget:
            return [each for each in found if each.size]
    return []


def gallery(run: Run, steps: int, images: int) -> Gallery:
    """At most so many images of at most so many of the steps of a run, the first and the last among them."""
    folder = run.folder / FOLDER
    rows = []
    for number in range(images if steps else 0):
        image, label = folder / f"image-{number}.jpg", folder / f"label-{number}.png"
        if not image.is_file() or not label.is_file():
            break
        truth = _labels(label)
        predicted = [
            (step, folder / f"predicted-{step:06d}-{number}.png") for step in _steps(folder, "predicted", steps)
        ]
        predicted = [(step, path) for step, path in predicted if path.is_file()]
        what = f"validation image {number + 1}"
        row = [Picture(_uri(image), what, "image"), Picture(_uri(label), f"label of {what}", "label")]
        for step, path in predicted:
            errors = _errors(step, error_map(_labels(path), truth, len(run.names)), what)
            row.append(Picture(_uri(path), f"{what} as predicted at step {step}", f"step {step}", errors))
        rows.append(row)
    return Gallery(run.label, rows, _seen(run, folder, min(steps, 2), images))


def error_map(predicted: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(H, W) uint8: 0 where the prediction is right, 1 where it is wrong, 2 where the truth is unknown."""
    return np.where(truth >= classes, 2, (predicted != truth).astype(np.uint8)).astype(np.uint8)


def _seen(run: Run, folder: Path, steps: int, images: int) -> list[list[Picture]]:
    rows = []
    for step in _steps(folder, "seen", steps):
        row = []
        for number in range(images):
            stem = folder / f"seen-{step:06d}-{number}"
            image, label = stem.with_suffix(".jpg"), stem.with_suffix(".png")
            if image.is_file() and label.is_file():
                row.append(Picture(_uri(image), f"image {number + 1} as the student saw it", f"seen in step {step}"))
                row.append(Picture(_uri(label), f"pseudo-label of image {number + 1}", "taught"))
        rows.append(row)
    return [row for row in rows if row]


def _steps(folder: Path, kind: str, most: int) -> list[int]:
    """At most so many of the steps that there are pictures of, evenly spaced, the last one among them."""
    if not folder.is_dir() or most == 0:
        return []
    found = sorted({int(match[1]) for path in folder.iterdir() if (match := re.match(rf"{kind}-(\d+)-", path.name))})
    if len(found) <= most:
        return found
    if most == 1:
        return found[-1:]
    return [found[round(index * (len(found) - 1) / (most - 1))] for index in range(most)]


def _labels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int64)


def _errors(step: int, wrong: np.ndarray, what: str) -> Picture:
    picture = Image.fromarray(wrong)
    picture.putpalette([40, 44, 52, 240, 80, 60, 150, 150, 150])
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    share = (wrong == 1).sum() / max((wrong < 2).sum(), 1)
    caption = f"{100 * share:.0f} % wrong"
    return Picture(_encode(file.getvalue(), "png"), f"errors of {what} at step {step}: {caption}", caption)


def _uri(path: Path) -> str:
    return _encode(path.read_bytes(), "png" if path.suffix == ".png" else "jpeg")


def _encode(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
