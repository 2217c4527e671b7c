"""What becomes of batch norm: frozen, replaced by group norm, or kept from noting some passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MAX_GROUPS = 32


class GroupNormAct(nn.GroupNorm):
    """Group norm in place of a batch norm, with whatever timm fused into that (dropout, activation)."""

    def __init__(self, replaced: _BatchNorm) -> None:
        super().__init__(group_count(replaced.num_features), replaced.num_features, eps=replaced.eps)
        if replaced.affine:
            self.weight, self.bias = replaced.weight, replaced.bias
        self.drop = getattr(replaced, "drop", nn.Identity())
        self.act = getattr(replaced, "act", nn.Identity())

    def forward(self, feature: Tensor) -> Tensor:
        """(B, channels, ...) to the same shape."""
        activated: Tensor = self.act(self.drop(super().forward(feature)))
        return activated


def group_count(channels: int) -> int:
    """Groups for ``channels``: a power of two up to 32 that divides them and leaves two channels or more a group.

    One channel a group would erase a map of a single pixel, such as global pooling makes.
    """
    groups = math.gcd(MAX_GROUPS, channels)
    return groups // 2 if groups == channels and groups > 1 else groups


def replace_batch_norm(module: nn.Module) -> nn.Module:
    """``module`` with every batch norm in it replaced by a group norm that keeps its scale and shift."""
    if isinstance(module, _BatchNorm):
        return GroupNormAct(module)
    for name, child in module.named_children():
        replacement = replace_batch_norm(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def freeze_batch_norm(module: nn.Module) -> None:
    """Put every batch norm in ``module`` into eval mode: its statistics are used and not changed."""
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eval()


@contextmanager
def unnoted_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms in training mode go by their batch as ever, and leave their running statistics what they are."""
    noting = [child for child in module.modules() if isinstance(child, _BatchNorm) and child.track_running_stats]
    for child in noting:
        child.track_running_stats = not child.training
    try:
        yield
    finally:
        for child in noting:
            child.track_running_stats = True
