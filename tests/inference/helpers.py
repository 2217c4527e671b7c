"""A network whose predictions are plain to see."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from evenseg.data.classes import Classes

CLASSES = Classes(("dark", "bright"), ((200, 0, 0), (0, 0, 200)), 255, None)


class Bright(nn.Module):
    """Two classes by the red channel: below and above one half."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append(tuple(image.shape))
        return torch.stack([0.5 - image[:, 0], image[:, 0] - 0.5], dim=1) * 20


def files(folder: Path) -> list[str]:
    """All files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
