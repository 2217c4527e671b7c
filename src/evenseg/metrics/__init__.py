"""Metrics: the confusion matrix, the figures read off it, and class imbalance."""

from evenseg.metrics.confusion import ConfusionMatrix, confusion_counts
from evenseg.metrics.distribution import kl_divergence
from evenseg.metrics.imbalance import Imbalance, TailClasses, imbalance, tail_classes
from evenseg.metrics.pseudo_label_health import HealthFigures, health_figures, health_sums, mixed_kl_divergence
from evenseg.metrics.summary import summarize

__all__ = [
    "ConfusionMatrix",
    "HealthFigures",
    "Imbalance",
    "TailClasses",
    "confusion_counts",
    "health_figures",
    "health_sums",
    "imbalance",
    "kl_divergence",
    "mixed_kl_divergence",
    "summarize",
    "tail_classes",
]
