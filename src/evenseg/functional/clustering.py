"""Subclasses of equal size: how many, and which pixels belong to each (USRN)."""

from __future__ import annotations

from evenseg.functional.balanced_kmeans import Balance, Clusters, balanced_kmeans
from evenseg.functional.subclass_counts import CountRule, Rounding, subclass_counts

__all__ = ["Balance", "Clusters", "CountRule", "Rounding", "balanced_kmeans", "subclass_counts"]
