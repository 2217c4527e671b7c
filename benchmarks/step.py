"""CPU seconds of a training step over those of its bare network passes.

    python benchmarks/step.py --encoder resnet18
    python benchmarks/step.py --encoder resnet50 --repetitions 5
    python benchmarks/step.py --encoder resnet18 --precisions 32 bf16-mixed

A step is everything the trainer does with a loaded batch: bytes to floats, strong views, forward and backward
passes, losses, the check for non-finite values, the optimiser, the teacher's update. The bare passes are the
student's forward and backward pass on the labeled and on the strong images, with a loss that costs nothing, and
the forward pass of the weak images. Both are measured in turns in one process on one thread, in CPU time of the
process; the figure is the ratio of medians.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import torch

from evenseg.config import Config, override_config
from evenseg.data.allocator import keep_freed_memory
from evenseg.training.probe import probe_step, random_batch
from evenseg.training.step import OptimizerStep

METHODS = ("supervised", "mean_teacher", "cutmix_seg", "fixmatch")
CLASSES = 21


def config_of(method: str, encoder: str, precision: str, size: int, batch: int) -> Config:
    return override_config(
        Config(),
        [
            f"method={method}",
            f"network.encoder={encoder}",
            f"train.precision={precision}",
            f"data.crop=[{size},{size}]",
            f"train.labeled_batch={batch}",
            f"train.unlabeled_batch={batch}",
            "train.accelerator=cpu",
        ],
    )


def bare_passes(step: OptimizerStep, size: int, batch: int, *, unlabeled: bool) -> Callable[[], None]:
    method = step.method
    image = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    gradient = torch.rand(batch, CLASSES, size, size) / (batch * size * size)

    def run() -> None:
        with step.fabric.autocast():
            outputs = [method.student(image).logits]
            if unlabeled:
                with torch.no_grad():
                    (method.teacher or method.student)(image)
                outputs.append(method.student(image).logits)
        for output in outputs:
            output.backward(gradient.to(output.dtype))
        for parameter in method.parameters():
            parameter.grad = None

    return run


def cpu_seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def measure(method: str, encoder: str, precision: str, size: int, batch: int, repetitions: int) -> tuple[float, float]:
    """Median CPU seconds of a step and of its bare passes."""
    config = config_of(method, encoder, precision, size, batch)
    step = probe_step(config, CLASSES)
    views = step.method.wanted_views()
    unlabeled = views.unlabeled
    raw = random_batch(config, CLASSES, views)
    bare = bare_passes(step, size, batch, unlabeled=unlabeled)
    steps, passes = [], []
    for index in range(repetitions + 2):
        seconds, network = cpu_seconds(lambda i=index: step(i, [raw])), cpu_seconds(bare)
        if index >= 2:  # the first ones allocate
            steps.append(seconds)
            passes.append(network)
    return statistics.median(steps), statistics.median(passes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--precisions", nargs="+", default=["32"], choices=["32", "bf16-mixed"])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2, help="labeled and unlabeled images each")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training run does
    logging.disable(logging.WARNING)
    print(f"{options.encoder}, {options.size}x{options.size}, batch {options.batch}+{options.batch}, one thread")
    print(f"{'method':14}{'precision':>12}{'step s':>9}{'passes s':>10}{'ratio':>8}")
    for method in options.methods:
        for precision in options.precisions:
            step, passes = measure(method, options.encoder, precision, options.size, options.batch, options.repetitions)
            print(f"{method:14}{precision:>12}{step:9.3f}{passes:10.3f}{step / passes:8.3f}", flush=True)


if __name__ == "__main__":
    main()
