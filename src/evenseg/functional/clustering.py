"""Subclasses of equal size: how many, and which pixels belong to each (USRN)."""

from __future__ import annotations

from evenseg.functional.balanced_kmeans import Balance, Clusters, balanced_kmeans
from evenseg.functional.chunks import Chunks
from evenseg.functional.clustering_stream import StreamClusters, assign_stream, fit_stream
from evenseg.functional.reservoir import Reservoir, merge, reservoir
from evenseg.functional.subclass_counts import CountRule, Rounding, subclass_counts

__all__ = [
    "Balance",
    "Chunks",
    "Clusters",
    "CountRule",
    "Reservoir",
    "Rounding",
    "StreamClusters",
    "assign_stream",
    "balanced_kmeans",
    "fit_stream",
    "merge",
    "reservoir",
    "subclass_counts",
]
