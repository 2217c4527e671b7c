"""A second network beside a first: the same architecture, other random weights."""

from __future__ import annotations

import copy

from evenseg.networks.base import SegmentationNetwork


def twin(network: SegmentationNetwork) -> SegmentationNetwork:
    """A network of the same kind, drawn anew from torch's generator, without extra heads.

    Where ``network`` was built with pretrained weights, the encoder is a copy of its own, and only the rest is new:
    a file may hold a whole network, but two of one decoder would be one.
    """
    other = SegmentationNetwork(
        network.architecture,
        network.encoder_name,
        num_classes=network.num_classes,
        output_stride=network.output_stride,
        auxiliary=network.auxiliary_head is not None,
        norm=network.norm,
        aspp_branches=network.aspp_branches,
        strong_statistics=network.strong_statistics,
        frozen_encoder=network.frozen_encoder,
    )
    if network.pretrained:
        other.encoder = copy.deepcopy(network.encoder)
        other.pretrained = True
    # of the pretrained weights' images, or the default
    other.scale.copy_(network.scale)
    other.shift.copy_(network.shift)
    return other
