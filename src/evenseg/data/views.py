"""From the configuration to views: how weak views are drawn, and strong views of a batch on its device."""

from __future__ import annotations

from torch import Tensor

from evenseg.config import DataConfig, StrongConfig
from evenseg.data.geometry import WeakSpec
from evenseg.data.photometric import color_view, draw_color
from evenseg.data.randaugment import draw_operations, randaugment_view


def weak_spec(config: DataConfig, *, unlabeled: bool) -> WeakSpec:
    """How weak views of labeled (and pseudo-labeled) or of unlabeled images are drawn."""
    scale = config.unlabeled_scale if unlabeled and config.unlabeled_scale is not None else config.scale
    blur = 0.0 if unlabeled else config.blur
    return WeakSpec(config.crop, tuple(scale), config.flip, config.rotation, config.rotation_probability, blur=blur)


def strong_views(
    weak: Tensor, config: StrongConfig, count: int, *, seed: int, step: int, first_slot: int
) -> tuple[Tensor, ...]:
    """``count`` strong views, pixel-aligned with the weak one and drawn independently.

    Args:
        weak: (B, 3, H, W) float in [0, 1].
        config: the policy and its strengths.
        count: number of views.
        seed, step: the run's seed and the step index.
        first_slot: global slot of the first image; the draws of an image belong to its slot.

    Returns:
        Tensors like ``weak``; ``weak`` itself under the policy "none".
    """
    batch = len(weak)
    if config.policy == "none":
        return (weak,) * count
    views = []
    for view in range(count):
        made = weak
        if config.policy in ("color", "color_randaugment"):
            made = color_view(made, draw_color(config, seed, step, first_slot, batch, view))
        if config.policy in ("randaugment", "color_randaugment"):
            made = randaugment_view(made, draw_operations(config, seed, step, first_slot, batch, view))
        views.append(made)
    return tuple(views)
