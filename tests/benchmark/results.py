"""Finished runs made by hand."""

from __future__ import annotations

from typing import Any

import torch

from evenseg.benchmark.finished import Finished
from evenseg.benchmark.plan import RunSpec
from evenseg.config import Config
from evenseg.metrics.image_counts import mean_iou
from evenseg.training.image_scores import ImageScores

NAMES = ("road", "car", "sign")


def finished(row: str, fold: int, *, accuracy: float, images: int = 40, **changes: Any) -> Finished:
    """A run whose images are right in a share of pixels that is drawn around ``accuracy``."""
    draw = torch.Generator().manual_seed(fold)
    truth = torch.tensor([700, 250, 50]).expand(images, 3)
    share = (accuracy + 0.1 * torch.randn(images, 3, generator=draw)).clamp(0, 1)
    hits = (truth * share).long()
    missed = truth - hits
    counts = torch.stack([hits, truth, hits + missed.roll(1, dims=1)], dim=1)
    total = counts.sum(dim=0)
    result = {
        "miou": float(mean_iou(total)),
        "tail_miou": float(mean_iou(total, [2])),
        "head_miou": float(mean_iou(total, [0, 1])),
        "per_class_iou": {name: float(mean_iou(total, [index])) for index, name in enumerate(NAMES)},
        "evaluated": {"last_teacher": {"miou": float(mean_iou(total))}},
        "split": "test",
        "protocol": "whole",
        "tail_classes": ["sign"],
    }
    environment = {"split_sha256": {"labeled": f"fold {fold}", "test": "all"}}
    spec = RunSpec(row, "1/8", fold, 0, Config(), Config())
    names = tuple(f"images/seq{index // 4}_{index:04d}.jpg" for index in range(images))
    timing = {"seconds_per_step": 0.5 + fold, "peak_memory_bytes": 2**30}
    return Finished(spec, {**result, **changes}, environment, timing, ImageScores(counts, names))
