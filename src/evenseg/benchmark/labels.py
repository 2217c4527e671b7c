"""Short names of runs that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def labels(paths: Sequence[Path]) -> list[str]:
    """The shortest part of each path that tells it from the others: without what all begin or end with."""
    if len(paths) == 1:
        return [paths[0].name]
    parts = [path.parts for path in paths]
    shortest = min(map(len, parts))
    first = next((i for i in range(shortest) if len({part[i] for part in parts}) > 1), shortest - 1)
    last = next((i for i in range(shortest - first) if len({part[-1 - i] for part in parts}) > 1), 0)
    return ["/".join(part[first : len(part) - last]) for part in parts]
