"""Channel dropout for two views of an image, each of which sees what the other does not."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.functional.random import slot_noise, slot_uniform

_LAST_BIT = 30  # of the numbers of `slot_noise`


def complementary_dropout(
    seed: int,
    step: int,
    first_slot: int,
    batch: int,
    channels: int,
    *,
    complementary: bool = True,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Factors of the channels of two views: 0 or 2, and in the other view 2 or 0; 1 for one of two neighbours.

    Source: Yang et al., "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", 2024, Section 3.4;
    half of the images undropped as in its code.

    Args:
        seed, step, first_slot, batch: as in ``random.slot_uniform``; slots 2k and 2k + 1 are neighbours, and one of
            them, by chance, keeps all channels of both views.
        channels: D.
        complementary: False draws the second view's channels apart from the first's.
        device: of the factors; nothing waits for it.

    Returns:
        Two (B, D) float32 with values 0, 1, 2; their sum is 2 everywhere unless drawn apart.
    """
    noise = slot_noise(seed, step, first_slot, batch, 2 * channels, stream="channel dropout", device=device)
    kept = noise >> _LAST_BIT  # 0 or 1, each half of the time
    first = kept[:, :channels].float() * 2
    second = 2 - first if complementary else kept[:, channels:].float() * 2
    whole = undropped(seed, step, first_slot, batch)[:, None].to(first.device, non_blocking=True)
    one = torch.ones((), device=first.device)
    return torch.where(whole, one, first), torch.where(whole, one, second)


def undropped(seed: int, step: int, first_slot: int, batch: int) -> Tensor:
    """(B,) bool on the CPU: one of the slots 2k and 2k + 1 is True, each as often as the other."""
    start = first_slot - first_slot % 2  # the even neighbour's draw is that of both
    end = first_slot + batch
    chance = slot_uniform(seed, step, start, end - start, 1, stream="undropped").squeeze(1)
    slot = torch.arange(first_slot, end)
    return (chance[slot - slot % 2 - start] < 0.5) == (slot % 2 == 0)
