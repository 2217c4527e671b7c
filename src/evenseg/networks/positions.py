"""Position embeddings of one grid of patches for another."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def is_position_embedding(name: str) -> bool:
    """Whether a tensor of that name in a state dict holds a vision transformer's absolute position embeddings."""
    return name.endswith("pos_embed")


def resize_position_embedding(embedding: Tensor, tokens: int) -> Tensor | None:
    """Position embeddings interpolated to another number of tokens.

    The patches lie on square grids; further tokens (class, registers) come before them and are kept.

    Args:
        embedding: (1, M, D).
        tokens: N.

    Returns:
        (1, N, D) of the same dtype; None where no number of further tokens makes both grids square.
    """
    for further in range(min(embedding.shape[1], tokens)):
        old, new = embedding.shape[1] - further, tokens - further
        side, wanted = math.isqrt(old), math.isqrt(new)
        if side * side == old and wanted * wanted == new:
            break
    else:
        return None
    grid = embedding[:, further:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    # as in timm, so that weights of another grid mean here what they mean there
    grid = F.interpolate(grid, size=(wanted, wanted), mode="bicubic", antialias=True)
    patches = grid.permute(0, 2, 3, 1).flatten(1, 2).to(embedding.dtype)
    return torch.cat([embedding[:, :further], patches], dim=1)
