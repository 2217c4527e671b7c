"""Schedules as functions of the step."""

from __future__ import annotations

import math


def poly_decay(step: int, total: int, *, power: float = 0.9) -> float:
    """(1 - step / total)^power, clamped to [0, 1]: 1 at step 0, 0 at ``total``.

    Source: Chen et al., "DeepLab", TPAMI 2018, Section 4.1.
    """
    return max(0.0, 1.0 - step / total) ** power if total > 0 else 0.0


def cosine_decay(step: int, total: int) -> float:
    """Half a cosine from 1 at step 0 to 0 at ``total``. Source: Loshchilov and Hutter, SGDR, ICLR 2017."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total))) if total > 0 else 0.0


def linear_warmup(step: int, length: int) -> float:
    """Rises linearly to 1 over ``length`` steps; the first step already learns: (step + 1) / length."""
    return min(1.0, (step + 1) / length) if length > 0 else 1.0


def sigmoid_ramp(step: int, length: int) -> float:
    """exp(-5 (1 - t)^2) with t = step / length clamped to [0, 1]; 1 everywhere if ``length`` is 0.

    Source: Laine and Aila, "Temporal Ensembling", ICLR 2017; used by Mean Teacher.
    """
    if length <= 0:
        return 1.0
    t = min(1.0, max(0.0, step / length))
    return math.exp(-5.0 * (1.0 - t) ** 2)
