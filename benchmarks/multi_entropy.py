"""Multi-Entropy Sampling of 10^6 pixels of 19 classes, beside one sort of as many whole numbers.

    OMP_NUM_THREADS=1 python benchmarks/multi_entropy.py
    python benchmarks/multi_entropy.py --device cuda

Class frequencies fall from 1 to 1/300; the quota is half of each class's pixels. Reported are the median milliseconds
of ``torch.sort`` of int64 keys, and as ratios to it: the indices (``multi_entropy_sample``), the weights of a step
(``sampling_weight``) that draw as many, and those that expect it (``estimator="weighted"``). On a CPU also numpy's
sort, which the sampling uses there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from evenseg.functional.multi_entropy import Sampling, multi_entropy_sample, sampling_weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device, pixels, classes = torch.device(arguments.device), arguments.pixels, arguments.classes
    g = torch.Generator(device).manual_seed(0)
    label = torch.multinomial(torch.logspace(0, -2.5, classes, device=device), pixels, replacement=True, generator=g)
    entropy = torch.rand(pixels, generator=g, device=device) ** 3 * 2.9  # most pixels are sure
    quota = torch.bincount(label, minlength=classes) // 2
    keys = torch.randint(1 << 62, (pixels,), generator=g, device=device)
    noise = keys >> 31

    def milliseconds(call: Callable[[], object]) -> float:
        call()
        spent = []
        for _ in range(arguments.repeats):
            synchronise(device)
            start = time.perf_counter()
            call()
            synchronise(device)
            spent.append(1000 * (time.perf_counter() - start))
        return median(spent)

    sort = milliseconds(keys.sort)
    print(f"{pixels} pixels, {classes} classes, {device}, {torch.get_num_threads()} threads: sort {sort:.1f} ms")
    if device.type == "cpu":
        print(f"numpy's sort            {milliseconds(lambda: keys.clone().numpy().sort()) / sort:6.2f}")
    calls: dict[str, Callable[[], object]] = {
        "multi_entropy_sample": lambda: multi_entropy_sample(entropy, label, quota, generator=g),
        "sampling_weight": lambda: sampling_weight(entropy, label, classes, quota, noise),
        "the same, weighted": lambda: sampling_weight(
            entropy, label, classes, quota, noise, sampling=Sampling(estimator="weighted")
        ),
    }
    for name, call in calls.items():
        spent = milliseconds(call)
        print(f"{name:22s}  {spent / sort:6.2f}   {spent:.1f} ms")


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
