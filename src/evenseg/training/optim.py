"""Optimisers and the schedule of their learning rate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from evenseg.config import OptimConfig
from evenseg.functional.schedules import cosine_decay, linear_warmup, poly_decay
from evenseg.methods.base import Method, ParamGroup


def parameter_groups(method: Method, config: OptimConfig) -> list[ParamGroup]:
    """A method's parameter groups; with ``layer_decay`` below 1, ``encoder`` is divided by layer.

    A layer at depth d below the decoder trains at ``layer_decay^d`` of the encoder's rate; as in BEiT's code, the last
    block of a transformer is at depth 1.

    Source: Clark et al., "ELECTRA", ICLR 2020; for images Bao et al., "BEiT", ICLR 2022.

    Raises:
        InputError: an encoder whose layers are in no known order.
    """
    if config.layer_decay == 1:
        return method.param_groups()
    depths = {p: depth for network in method.networks() for p, depth in network.encoder_depths().items()}
    divided: list[ParamGroup] = []
    for group in method.param_groups():
        if group.name != "encoder":
            divided.append(group)
            continue
        layers: dict[int, list[nn.Parameter]] = {}
        for parameter in group.parameters:
            layers.setdefault(depths[parameter], []).append(parameter)
        divided += [
            ParamGroup("encoder", layers[depth], group.lr * config.layer_decay**depth)
            for depth in sorted(layers, reverse=True)
        ]
    return divided


def build_optimizer(groups: Iterable[ParamGroup], config: OptimConfig, *, fused: bool = True) -> Optimizer:
    """The configured optimiser over the parameter groups of a method.

    Args:
        groups: see ``parameter_groups``.
        config: the ``optim`` section.
        fused: quick, and able to leave out an update by a flag on the device (``guard``).
    """
    parameters = [
        {
            "name": group.name,
            "params": group.parameters,
            "base_lr": config.lr * group.lr * (config.head_lr if group.name != "encoder" else 1.0),
        }
        for group in groups
        if group.parameters
    ]
    if config.name == "sgd":
        optimizer: Optimizer = SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
        )
        if config.momentum:  # fused SGD leaves its memory uninitialised if the very first update is left out
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    kind = AdamW if config.name == "adamw" else Adam
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)


def learning_rate_factor(step: int, total: int, config: OptimConfig) -> float:
    """Factor on every base learning rate at a 0-based step: the schedule times the warm-up."""
    if config.schedule == "poly":
        decay = poly_decay(step, total, power=config.power)
    elif config.schedule == "cosine":
        decay = cosine_decay(step, total)
    else:
        decay = 1.0
    return decay * linear_warmup(step, config.warmup_steps)


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Sets the learning rate of every group to its base times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
