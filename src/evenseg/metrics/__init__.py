"""Metrics: the confusion matrix, the figures read off it, and class imbalance."""

from evenseg.metrics.confusion import ConfusionMatrix, confusion_counts
from evenseg.metrics.imbalance import Imbalance, TailClasses, imbalance, tail_classes
from evenseg.metrics.summary import summarize

__all__ = [
    "ConfusionMatrix",
    "Imbalance",
    "TailClasses",
    "confusion_counts",
    "imbalance",
    "summarize",
    "tail_classes",
]
