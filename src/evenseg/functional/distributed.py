"""Sums over the ranks of a distributed run; the identity where there is only one."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Number of ranks; 1 outside a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of ``value`` (any shape, no gradient) over all ranks; ``value`` itself on one rank."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    if not total.is_cuda and dist.get_backend() == "nccl":  # which takes nothing from the host
        total = total.cuda()
    dist.all_reduce(total)
    return total.to(value.device)


def gather_over_ranks(value: T) -> list[T]:
    """``value`` of each rank, in their order. It is pickled, and the host waits: not for use within a step."""
    values = [value] * world_size()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def global_mean(total: Tensor, count: Tensor) -> Tensor:
    """Mean over the global batch of a local sum, in the form that gradient averaging expects.

    Each rank returns ``total * world_size / all_reduced(count)``, so that the average over ranks,
    which DDP takes of the gradients, is the mean over the global batch (rule 2, rank invariance).

    Args:
        total: scalar sum over this rank, with gradient.
        count: scalar number of summands of this rank.

    Returns:
        Scalar; a zero connected to the graph where the global count is zero.
    """
    ranks = world_size()
    everywhere = sum_over_ranks(count.to(torch.float32))
    return total * (ranks / torch.where(everywhere > 0, everywhere, 1.0)) * (everywhere > 0)


def rank() -> int:
    """Number of this rank, from 0; 0 outside a distributed run."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def concatenate_over_ranks(value: Tensor) -> Tensor:
    """``value`` (N, ...) of every rank, of the same shape everywhere, one after the other: (ranks * N, ...).

    Without gradient, and without waiting on the host; ``value`` itself on one rank.
    """
    if world_size() == 1:
        return value.detach()
    own = value.detach().contiguous()
    gathered = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(gathered, own)
    return torch.cat(gathered)


def max_over_ranks(value: Tensor) -> Tensor:
    """Largest ``value`` (any shape, no gradient) of all ranks, entry by entry; ``value`` itself on one rank."""
    if world_size() == 1:
        return value
    largest = value.detach().clone()
    if not largest.is_cuda and dist.get_backend() == "nccl":
        largest = largest.cuda()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.to(value.device)
