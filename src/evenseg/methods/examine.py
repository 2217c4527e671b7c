"""What a step tells of its pseudo-labels when it is asked to: their sums for the log, and what the student saw."""

from __future__ import annotations

from torch import Tensor

from evenseg.metrics.pseudo_label_health import health_sums
from evenseg.types import Seen, StepViews, ignore_label

HEALTH = "pseudo_label_health"  # the name of the sums among the logged values; no scalar


def seen(views: StepViews) -> Seen | None:
    """The images of the student's view with the pseudo-labels that have weight; None without any."""
    if views.image is None or views.mixed is None:
        return None
    _, label = views.mixed.hard()
    return Seen(views.image.detach(), label.where(views.mixed.weight > 0, ignore_label(views.mixed.prob.shape[1])))


def health(views: StepViews) -> dict[str, Tensor]:
    """The sums of the pseudo-labels, as the student is taught them; empty without any."""
    target = views.target if views.mixed is None else views.mixed
    if target is None:
        return {}
    # the student's view is aligned with what the mixer returned, and with nothing else
    student = None if views.strong is None or views.mixed is None else views.strong.logits.detach()
    return {HEALTH: health_sums(target, student, target.truth)}
