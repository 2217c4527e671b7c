"""Scores of a method's networks on a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from evenseg.data.dataset import Dataset
from evenseg.inference.evaluate import evaluate
from evenseg.inference.predict import Protocol
from evenseg.methods.base import Method
from evenseg.metrics.summary import summarize
from evenseg.training.score_files import Details

Scores = dict[str, Any]


def score(
    network: nn.Module,
    dataset: Dataset,
    tail: tuple[str, ...],
    protocol: Protocol,
    fabric: Fabric,
    *,
    progress: Callable[[int, int], None] | None = None,
    details: Details | None = None,
) -> Scores:
    """The figures of one image -> logits module on a labeled data set; ranks share the images.

    progress: as in ``inference.evaluate``. details: filled with what is seen.
    """
    matrix = evaluate(
        network,
        dataset,
        protocol,
        device=fabric.device,
        autocast=fabric.autocast,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        progress=progress,
        image_counts=details.image_counts if details else None,
        objects=details.objects if details else None,
    )
    if details:
        details.confusion.add(matrix)
    return summarize(matrix.counts, dataset.classes.names, tail)


def validate(
    method: Method,
    dataset: Dataset,
    tail: tuple[str, ...],
    protocol: Protocol,
    fabric: Fabric,
    *,
    details: Details | None = None,
) -> dict[str, Scores]:
    """Scores by role (``student``, ``teacher``), the headline last, which ``details`` are filled by."""
    *others, headline = method.predictors().items()
    scores = {role: score(network, dataset, tail, protocol, fabric) for role, network in others}
    role, network = headline
    return {**scores, role: score(network, dataset, tail, protocol, fabric, details=details)}


def figures(scores: Scores) -> str:
    """``mIoU 38.2 %, tail 6.8 %, head 64.3 %``; what does not occur is left out."""
    named = {"mIoU": scores["miou"], "tail": scores["tail_miou"], "head": scores["head_miou"]}
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in named.items() if value is not None)
