"""What timm knows of a model before it has weights: whether it is a plain transformer, and the order of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import timm
import torch
from timm.models import group_parameters

from evenseg.errors import InputError


def is_plain_transformer(encoder: str) -> bool:
    """Whether an encoder is a ``tu-`` transformer whose maps all have the stride of its patches."""
    if not encoder.startswith("tu-"):
        return False
    model = _outline(encoder[3:])
    info = getattr(model, "feature_info", ())
    return hasattr(model, "forward_intermediates") and len(info) > 1 and len({each["reduction"] for each in info}) == 1


def encoder_layers(parameters: Iterable[str], encoder: str) -> dict[str, int]:
    """The layer of each parameter of an encoder, by timm's own grouping.

    Args:
        parameters: their names.
        encoder: its name, timm's with the prefix ``tu-``, or one of segmentation-models-pytorch that timm has under
            the same names of parameters.

    Returns:
        By name, 0 for the stem, then upwards without gaps.

    Raises:
        InputError: timm does not group such parameters.
    """
    names = list(parameters)
    model = encoder.removeprefix("tu-")
    outline = _outline(model) if timm.is_model(model) else None
    layers: dict[str, int] = {}
    if outline is not None and hasattr(outline, "group_matcher"):
        known = group_parameters(outline, outline.group_matcher(coarse=False), reverse=True)
        # timm flattens `stages.0` to `stages_0` where it hands out feature maps
        by_name = {name.replace(".", "_"): layer for name, layer in known.items()}
        found = {name: by_name.get(name.removeprefix("model.").replace(".", "_")) for name in names}
        layers = {name: layer for name, layer in found.items() if layer is not None}
    if len(layers) < len(names):
        raise InputError(
            f"optim.layer_decay: the order of the layers of {encoder} is not known; set it to 1, or take an encoder "
            "of timm (network.encoder: tu-...)"
        )
    position = {layer: index for index, layer in enumerate(sorted(set(layers.values())))}
    return {name: position[layer] for name, layer in layers.items()}


@cache
def _outline(model: str) -> Any:
    """A timm model without memory for its parameters."""
    with torch.device("meta"):
        return timm.create_model(model)
