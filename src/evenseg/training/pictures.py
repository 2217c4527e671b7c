"""Pictures of a run, for people and for the report: the same validation images at every validation, and what the
student was shown of the unlabeled ones. Few and small; nothing that is computed depends on them.

``pictures/image-0.jpg`` and ``label-0.png``: the first of the images and its label. ``predicted-000500-0.png``: its
labels after 500 steps. ``seen-000500-0.jpg`` and ``.png``: an image as the student saw it in step 500, mixed and
coloured, and the pseudo-label it was taught, without the pixels that had no weight.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from lightning_fabric import Fabric
from torch import nn

from evenseg.data.classes import Classes
from evenseg.data.dataset import Dataset
from evenseg.inference.evaluate import to_images
from evenseg.inference.outputs import write_image, write_label
from evenseg.inference.predict import Protocol, evaluating, predict_label
from evenseg.types import Seen

FOLDER = "pictures"
LONGEST = 512  # pixels of the longer side, as stored


class Pictures:
    """Writes the pictures of a run.

    Args:
        folder: the run folder.
        images: what the validation images are taken from, evenly spaced; None: there are none.
        classes: of the labels.
        count: validation images, and images as the student sees them.
    """

    def __init__(self, folder: Path, images: Dataset | None, classes: Classes, count: int) -> None:
        self._folder, self._images, self._classes, self._count = folder / FOLDER, images, classes, count

    def predicted(self, step: int, network: nn.Module, protocol: Protocol, fabric: Fabric) -> None:
        """The validation images as a network labels them after so many steps."""
        if self._images is None or not self._count:
            return
        total = len(self._images)
        chosen = sorted({(2 * index + 1) * total // (2 * self._count) for index in range(self._count)})
        with evaluating(network):
            for number, index in enumerate(chosen):
                image = self._images.image(index)
                if not (self._folder / f"label-{number}.png").exists():
                    write_image(self._folder / f"image-{number}.jpg", _small(image, cv2.INTER_AREA))
                    self._write_label(f"label-{number}.png", self._images.label(index))
                batch = to_images([image], fabric.device)
                label = predict_label(network, batch, protocol, autocast=fabric.autocast)[0]
                self._write_label(f"predicted-{step:06d}-{number}.png", label.cpu().numpy())

    def seen(self, step: int, seen: Seen | None) -> None:
        """Unlabeled images as the student saw them in the last of so many steps."""
        if seen is None:
            return
        images = (seen.image[: self._count].float() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        labels = seen.label[: self._count].cpu().numpy()
        for number, (image, label) in enumerate(zip(images.cpu().numpy(), labels, strict=True)):
            stem = f"seen-{step:06d}-{number}"
            write_image(self._folder / f"{stem}.jpg", _small(image, cv2.INTER_AREA))
            self._write_label(f"{stem}.png", label)

    def _write_label(self, name: str, label: np.ndarray | None) -> None:
        if label is not None:
            small = _small(label.astype(np.uint16), cv2.INTER_NEAREST)
            write_label(self._folder / name, small, self._classes)


def _small(picture: np.ndarray, interpolation: int) -> np.ndarray:
    """An (H, W) or (H, W, 3) picture, no longer than ``LONGEST``."""
    height, width = picture.shape[:2]
    factor = LONGEST / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=interpolation)
