"""Time, memory and quality of balanced clustering, in memory and from a memory map.

    OMP_NUM_THREADS=1 python benchmarks/clustering.py memory
    OMP_NUM_THREADS=2 python benchmarks/clustering.py stream

``memory``: points from clouds of unequal weight, 2 x 10^5 x 64 into 32 clusters and sizes around it, up to 10^6 points.
Reported are CPU seconds, the sizes, and by how much the cost exceeds the bound that the prices give (no balanced
assignment to these centers costs less). ``stream``: a map of half precision, 10^7 x 256 into 64 clusters (5 GB in the
temporary folder, removed afterwards), read once before so that it is cached. Reported are wall and CPU seconds, the
coefficient of variation of the sizes of all points, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from evenseg.functional.clustering import Clusters, assign_stream, balanced_kmeans, fit_stream

GRID = [  # N, D, K
    (200_000, 64, 32),
    (50_000, 64, 32),
    (1_000_000, 64, 32),
    (200_000, 16, 32),
    (200_000, 256, 32),
    (200_000, 64, 8),
    (200_000, 64, 128),
]
CLOUDS = 40


def clouds(count: int, dimension: int, generator: torch.Generator, center: torch.Tensor) -> torch.Tensor:
    weight = torch.arange(1, CLOUDS + 1).float() ** -1
    own = torch.multinomial(weight, count, replacement=True, generator=generator)
    return center[own] + torch.randn(count, dimension, generator=generator)


def excess(points: torch.Tensor, clusters: Clusters) -> float:
    """Cost over the dual bound, less 1; in double precision, piece by piece."""
    centers, prices = clusters.centers.double(), clusters.prices.double()
    cost = bound = 0.0
    for part, own in zip(points.split(10_000), clusters.assignment.split(10_000), strict=True):
        distance = torch.cdist(part.double(), centers).square()
        cost += float(distance.gather(1, own[:, None]).sum())
        bound += float((distance + prices).amin(dim=1).sum())
    floor, larger = divmod(len(points), len(centers))
    bound -= float(floor * prices.sum() + prices.topk(larger).values.sum())
    return cost / bound - 1


def in_memory() -> None:
    for count, dimension, clusters in GRID:
        g = torch.Generator().manual_seed(0)
        points = clouds(count, dimension, g, torch.randn(CLOUDS, dimension, generator=g))
        start = time.process_time()
        found = balanced_kmeans(points, clusters, generator=torch.Generator().manual_seed(0))
        spent = time.process_time() - start
        sizes = torch.bincount(found.assignment, minlength=clusters)
        print(
            f"{count} x {dimension} into {clusters}: {spent:.2f} CPU s, sizes {int(sizes.min())}..{int(sizes.max())}, "
            f"{100 * excess(points, found):.4f} % above the bound",
            flush=True,
        )


def write(path: Path, count: int, dimension: int) -> None:
    g = torch.Generator().manual_seed(0)
    center = torch.randn(CLOUDS, dimension, generator=g)
    with path.open("wb") as file:
        for first in range(0, count, 100_000):
            file.write(clouds(min(100_000, count - first), dimension, g, center).half().numpy().data)


def from_a_map(count: int, dimension: int, clusters: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points"
        write(path, count, dimension)
        with path.open("rb") as file:  # into the system's cache
            while file.read(1 << 24):
                pass
        stored = np.memmap(path, dtype=np.float16, mode="r", shape=(count, dimension))
        start, spent = time.perf_counter(), time.process_time()
        found = fit_stream(stored, clusters, generator=torch.Generator().manual_seed(0))
        sizes = found.sizes.double()
        print(
            f"{count} x {dimension} into {clusters}: {time.perf_counter() - start:.1f} s, "
            f"{time.process_time() - spent:.1f} CPU s, "
            f"coefficient of variation {float(sizes.std(correction=0) / sizes.mean()):.4f}",
            flush=True,
        )
        start, spent = time.perf_counter(), time.process_time()
        assigned = sum(len(own) for own in assign_stream(stored, found))
        print(
            f"assignment of {assigned}, one pass: {time.perf_counter() - start:.1f} s, "
            f"{time.process_time() - spent:.1f} CPU s"
        )
    print(f"peak of resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "stream"])
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--clusters", type=int, default=64)
    options = parser.parse_args()
    if options.what == "memory":
        in_memory()
    else:
        from_a_map(options.points, options.dimension, options.clusters)


if __name__ == "__main__":
    main()
