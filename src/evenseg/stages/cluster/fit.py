"""Centers and prices: found on a sample of each class, then corrected until all its cells are divided evenly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.functional.balance_prices import balancing_step
from evenseg.functional.clustering import Balance, balanced_kmeans
from evenseg.functional.distributed import gather_over_ranks
from evenseg.functional.random import generator
from evenseg.stages.cluster.codebook import Codebook, load_tensors, save_tensors

CURVATURE = 8192  # drawn cells that tell how sizes follow prices


class Sample(NamedTuple):
    """Drawn cells. feature: (n, D) float16 or float32. group: (n,) int64, their classes in order."""

    feature: Tensor
    group: Tensor

    def of_class(self, number: int) -> Tensor:
        """(m, D), those of a class."""
        return self.feature[self.group == number]


class Balanced(NamedTuple):
    """A codebook, and the (S,) int64 cells of each subclass by the prices of the sample and by its own."""

    codebook: Codebook
    before: Tensor
    sizes: Tensor


def fit_classes(
    folder: Path,
    sample: Sample,
    counts: Tensor,
    *,
    balance: Balance,
    strength: float = 0.5,
    iterations: int,
    seed: int,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    barrier: Callable[[], object] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> Codebook:
    """Balanced k-means in each class that has several subclasses, each in a file of its own.

    Args:
        folder: of these files; what is there is left alone.
        sample: at least as many cells of a class as it has subclasses.
        counts: (C,) int64.
        balance, strength, iterations: see ``balanced_kmeans``.
        seed: of the starts; each class has a generator of its own.
        device: where they are computed.
        rank, world_size, barrier: processes share the classes.
        progress: called with (classes done, classes of this process).
    """
    divided = (counts > 1).nonzero().squeeze(1).tolist()
    own = divided[rank::world_size]
    for done, number in enumerate(own, start=1):
        path = _file(folder, number)
        if not path.exists():
            found = balanced_kmeans(
                sample.of_class(number).to(device).float(),
                int(counts[number]),
                generator=generator(seed, "cluster", number),
                iterations=iterations,
                balance=balance,
                strength=strength,
            )
            save_tensors(path, {"centers": found.centers, "prices": found.prices})
        if progress is not None:
            progress(done, len(own))
    barrier()
    dimension, total = sample.feature.shape[1], int(counts.sum())
    codebook = Codebook(counts, torch.zeros(total, dimension), torch.zeros(total))
    for number in divided:
        stored, ids = load_tensors(_file(folder, number)), codebook.of_class(number)
        codebook.centers[ids], codebook.prices[ids] = stored["centers"], stored["prices"]
    return codebook.to(device)


def balance_prices(
    codebook: Codebook, sample: Sample, count: Callable[[Codebook, int], Tensor], *, tolerance: float, passes: int
) -> Balanced:
    """Corrects the prices of the classes whose cells are divided unevenly.

    Args:
        codebook: with the prices of the sample.
        sample: it was made from.
        count: (S,) int64 cells of each subclass over all images, in so many passes over them.
        tolerance: largest coefficient of variation of the sizes in a class that is left alone.
        passes: most further counts.
    """
    counts = codebook.counts
    sizes = before = count(codebook, 0)
    variation, damping = _variations(codebook, sizes), torch.ones(len(counts))
    for number in range(1, passes + 1):
        uneven = (variation > tolerance).nonzero().squeeze(1).tolist()
        if not uneven:
            break
        prices = codebook.prices.clone()
        for each in uneven:
            ids = codebook.of_class(each)
            cost = codebook.cost(each, sample.of_class(each)[:CURVATURE].to(prices.device))
            excess = (sizes[ids] / sizes[ids].sum() - 1 / counts[each]).float().to(prices.device)
            prices[ids] += damping[each] * balancing_step(cost, codebook.prices[ids], excess)
        # all take the numbers of the first
        trial = codebook._replace(prices=gather_over_ranks(prices.cpu())[0].to(prices.device))
        tried = count(trial, number)
        changed = _variations(trial, tried)
        better = changed < variation
        of_better = better.repeat_interleave(counts)
        codebook = codebook._replace(
            prices=torch.where(of_better.to(prices.device), trial.prices, codebook.prices),
        )
        sizes = torch.where(of_better, tried, sizes)
        variation = torch.where(better, changed, variation)
        damping = torch.where(better, damping, damping / 2)
    return Balanced(codebook, before, sizes.clone())  # not the same memory where nothing was corrected


def _variations(codebook: Codebook, sizes: Tensor) -> Tensor:
    """(C,) float64, standard deviation over mean of the sizes of each class's subclasses; 0 without a cell."""
    parts = torch.split(sizes.double(), codebook.counts.tolist())
    return torch.stack([part.std(correction=0) / part.mean().clamp(min=1e-12) for part in parts])


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"
