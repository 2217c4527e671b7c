"""From a configuration to its parts."""

from __future__ import annotations

from typing import Any

import torch

from evenseg import registry
from evenseg.components.pseudo_labeled_loss import PseudoLabeledLoss
from evenseg.config import Config
from evenseg.errors import InputError
from evenseg.functional import random
from evenseg.inference.predict import Protocol, make_protocol
from evenseg.methods.base import Method
from evenseg.methods.composition import refuse_illegal
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import DataFacts


def protocol_of(config: Config) -> Protocol:
    """The evaluation protocol of a run. Raises InputError for one that contradicts itself."""
    evaluate = config.evaluate
    return make_protocol(
        mode=evaluate.mode,
        window=evaluate.window,
        stride=evaluate.stride,
        scales=evaluate.scales,
        flip=evaluate.flip,
        batch=evaluate.batch,
        crop=config.data.crop,
    )


def method_class(config: Config) -> type[Method]:
    """The class of the configured method, its arguments checked, and that its components go with it.

    Raises InputError.
    """
    cls, arguments = registry.check_spec("method", config.method)
    found: type[Method] = cls
    names = [spec["name"] for spec in arguments.get("components", ())]
    components = [registry.resolve("component", name) for name in names]
    refuse_illegal(found, components, name=config.method_name, where="method.components")
    if config.network.strong_statistics == "separate" and not found.strong_apart:
        raise InputError(
            f"network.strong_statistics: {config.method_name} has no passes of strong views alone, whose statistics "
            "could be kept out; set it to shared"
        )
    return found


def build_method(config: Config, data: DataFacts, *, weights: str | None) -> Method:
    """The method on a network of its own, initialised from the run's seed.

    Args:
        config: the resolved configuration.
        data: what it is to know of its data.
        weights: initial weights, as ``network.weights``; None where a checkpoint will be loaded.

    Raises:
        InputError: unknown names or arguments, unreadable weights.
    """
    torch.manual_seed(random.key(config.seed, "weights"))
    network = SegmentationNetwork(
        config.network.architecture,
        config.network.encoder,
        num_classes=len(data.class_names),
        output_stride=config.network.output_stride,
        weights=weights,
        auxiliary=config.network.auxiliary,
        norm=config.network.norm,
        aspp_branches=config.network.aspp_branches,
        strong_statistics=config.network.strong_statistics,
        frozen_encoder=config.network.frozen_encoder,
    )
    if config.optim.layer_decay < 1:
        network.encoder_depths()  # refuses, before anything is made, an encoder whose layers are in no known order
    supplied: dict[str, Any] = {"network": network, "class_frequency": data.class_frequency, "data": data}
    method: Method = registry.build("method", config.method, **supplied)
    train = config.train
    method.pseudo_labeled_loss = PseudoLabeledLoss(train.pseudo_labeled_weight, train.pseudo_labeled_power)
    return method
