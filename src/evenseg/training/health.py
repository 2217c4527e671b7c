"""The line of the log that tells how the pseudo-labels are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from evenseg.metrics.pseudo_label_health import HealthSums, health_figures, mixed_kl_divergence


def health_record(sums: Tensor, names: Sequence[str], class_frequency: Tensor) -> dict[str, Any]:
    """Figures of all pseudo-labels, and of those of each class.

    Args:
        sums: (8, C) of ``health_sums``, or a mean of such.
        names: C class names.
        class_frequency: (C,) labeled pixels, p of the divergence.

    Returns:
        ``kl_divergence``; ``kept``, ``weight``, ``confidence``, ``disagreement``, ``precision`` and ``recall`` of
        all; ``per_class_share`` and ``per_class_`` and each of these names, by class name. None where unknown.
    """
    far = mixed_kl_divergence(class_frequency, HealthSums(*sums).kept)
    record: dict[str, Any] = {"kl_divergence": digits(float(far))}
    overall = health_figures(sums.sum(dim=1, keepdim=True))._asdict()
    record |= {name: digits(float(value)) for name, value in overall.items() if name != "share"}
    for name, values in health_figures(sums)._asdict().items():
        record[f"per_class_{name}"] = dict(zip(names, map(digits, values.tolist()), strict=True))
    return record


def digits(value: float) -> float | None:
    """Six significant digits, more than pixels are worth."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
