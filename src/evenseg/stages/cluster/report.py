"""What clustering has made of the classes, as numbers and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from evenseg.functional.class_statistics import class_balance_rate
from evenseg.metrics.imbalance import coefficient_of_variation

_HEADER = ("class", "cells", "subclasses", "smallest", "largest", "variation")


class ClusterReport(NamedTuple):
    """Sizes of classes and subclasses.

    names: of the classes. counts: (C,) subclasses of each. cells: (C,) cells of each. sizes: (S,) cells of each
    subclass; before: with the prices of the sample alone. pixels: (S,) in the label maps. disagreement: share of the
    pixels with a class whose subclass does not belong to it. warnings: sentences.
    """

    names: Sequence[str]
    counts: NDArray[np.int64]
    cells: NDArray[np.int64]
    sizes: NDArray[np.int64]
    before: NDArray[np.int64]
    pixels: NDArray[np.int64]
    disagreement: float
    warnings: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold: what is not a number is None."""
        ends = self.counts.cumsum()
        own = [self.sizes[end - count : end] for end, count in zip(ends, self.counts, strict=True)]
        pixels = [self.pixels[end - count : end] for end, count in zip(ends, self.counts, strict=True)]
        classes = {
            name: {
                "cells": int(self.cells[index]),
                "subclasses": int(self.counts[index]),
                "sizes": own[index].tolist(),
                "pixels": pixels[index].tolist(),
                "variation": _finite(coefficient_of_variation(own[index])),
            }
            for index, name in enumerate(self.names)
        }
        return {
            "of_classes": _evenness(self.cells),
            "of_subclasses": _evenness(self.sizes),
            "of_subclasses_before_correction": _evenness(self.before),
            "disagreement": self.disagreement,
            "warnings": list(self.warnings),
            "classes": classes,
        }

    def as_table(self) -> str:
        """Markdown."""
        content = self.as_dict()
        rows = [
            (
                name,
                f"{each['cells']:,}",
                str(each["subclasses"]),
                f"{min(each['sizes']):,}",
                f"{max(each['sizes']):,}",
                _shown(each["variation"], "{:.3f}"),
            )
            for name, each in content["classes"].items()
        ]
        lines = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1)), *rows]
        parts = (
            ("classes", content["of_classes"]),
            ("subclasses, before the prices were corrected", content["of_subclasses_before_correction"]),
            ("subclasses", content["of_subclasses"]),
        )
        evenness = [
            f"{what}: {each['number']}, class balance rate {_shown(each['balance_rate'], '{:.2%}')}, coefficient of "
            f"variation {_shown(each['variation'], '{:.3f}')}, largest to smallest {_shown(each['ratio'], '{:.2f}')}"
            for what, each in parts
        ]
        wrong = f"pixels whose subclass is not of their class: {self.disagreement:.2%}"
        table = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([*table, "", *(f"- {line}" for line in [*evenness, wrong, *self.warnings])])


def _evenness(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Of sizes, (n,) int64; the ratio is that of the largest to the smallest that is not 0."""
    occurring = sizes[sizes > 0]
    return {
        "number": len(sizes),
        "balance_rate": _finite(class_balance_rate(torch.from_numpy(sizes)).item()),
        "variation": _finite(coefficient_of_variation(sizes)),
        "ratio": float(occurring.max() / occurring.min()) if len(occurring) else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
