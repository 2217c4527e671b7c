"""Random numbers that are pure functions of a key, so that no hidden state has to be resumed.

A draw is keyed by (seed, step, global slot, stream): the same on any number of ranks, in any
micro-batch, after any restart. The hash is SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014),
applied once per key part, in wrapping 64-bit arithmetic.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def key(*parts: int | str) -> int:
    """A 63-bit key from integers and names; order matters.

    >>> key(0, "cutmix", 7) == key(0, "cutmix", 7) != key(0, "cutmix", 8)
    True
    """
    state = 0
    for part in parts:
        state = _mix(state ^ (zlib.crc32(part.encode()) if isinstance(part, str) else part & _MASK))
    return state >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by the key of ``parts``."""
    return torch.Generator().manual_seed(key(*parts))


@contextmanager
def side_branch(*parts: int | str) -> Iterator[None]:
    """Inside, torch's CPU generator starts from (its own seed, ``parts``); afterwards it is where it was before.

    For weights that are drawn beside others: neither depends on how many numbers the other takes.
    """
    seed = key(torch.initial_seed(), *parts)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def slot_uniform(seed: int, step: int, first_slot: int, batch: int, draws: int, *, stream: str) -> Tensor:
    """Uniform numbers in [0, 1) that belong to the samples of a batch.

    Args:
        seed, step: the run's seed and the step index.
        first_slot: global slot of the first sample.
        batch: number of samples on this rank.
        draws: numbers per sample.
        stream: name of what is drawn; different streams are independent.

    Returns:
        (batch, draws) float64 on the CPU; row i depends on slot ``first_slot + i`` only.
    """
    base = key(seed, stream, step)
    rows = [
        [_mix(_mix(base ^ slot) ^ draw) >> 11 for draw in range(draws)]
        for slot in range(first_slot, first_slot + batch)
    ]
    return torch.tensor(rows, dtype=torch.float64).view(batch, draws) * 2.0**-53


def slot_noise(
    seed: int, step: int, first_slot: int, batch: int, draws: int, *, stream: str, device: torch.device | None = None
) -> Tensor:
    """Random integers in 0..2^31-1 that belong to the samples of a batch: as ``slot_uniform``, but many, anywhere.

    Args:
        seed, step, first_slot, batch, draws, stream: as in ``slot_uniform``.
        device: where they are made; nothing waits for it.

    Returns:
        (batch, draws) int64; row i depends on slot ``first_slot + i`` only, and column j on j.
    """
    base = key(seed, stream, step)
    # a key of 63 bits, so that it is no negative number
    rows = torch.tensor([_mix(base ^ slot) >> 1 for slot in range(first_slot, first_slot + batch)])
    if device is not None and device.type == "cuda":
        rows = rows.pin_memory()
    return spread(rows.to(device, non_blocking=True), draws)


def spread(keys: Tensor, draws: int) -> Tensor:
    """Random integers in 0..2^31-1 that belong to keys, wherever these are.

    Args:
        keys: (...) int64, evenly distributed over many values.
        draws: numbers for each of them.

    Returns:
        (..., draws) int64, a pure function of the key and the number of the draw.
    """
    state = keys[..., None] ^ torch.arange(draws, device=keys.device)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ shift_right(state, shift)) * (factor - (1 << 64))  # int64 arithmetic wraps
    return shift_right(state ^ shift_right(state, 31), 33)


def slot_rand(
    seed: int, step: int, first_slot: int, shape: tuple[int, ...], *, stream: str, device: torch.device | None = None
) -> Tensor:
    """Uniform numbers in [0, 1) that belong to the samples of a batch: as ``slot_uniform``, but many, and fast.

    Args:
        seed, step, first_slot, stream: as in ``slot_uniform``.
        shape: (batch, ...).
        device: where they are made; nothing waits for it, and other devices draw other numbers.

    Returns:
        ``shape`` float32; sample i depends on slot ``first_slot + i`` and the shape of a sample only.
    """
    drawn = torch.empty(shape, device=device)
    for row, slot in zip(drawn, range(first_slot, first_slot + shape[0]), strict=True):
        row.uniform_(generator=torch.Generator(drawn.device).manual_seed(key(seed, stream, step, slot)))
    return drawn


def shift_right(state: Tensor, bits: int) -> Tensor:
    """A right shift that fills with zeros, where torch's copies the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)
