"""CPU seconds of a training step over those of its bare network passes.

    python benchmarks/step.py --encoder resnet18
    python benchmarks/step.py --encoder resnet50 --repetitions 5
    python benchmarks/step.py --encoder resnet50 --size 512 --methods ael c3 --repetitions 3
    python benchmarks/step.py --encoder resnet50 --size 720 --methods usrn_joint --repetitions 3
    python benchmarks/step.py --encoder resnet18 --precisions 32 bf16-mixed
    python benchmarks/step.py --encoder resnet50 --methods unimatch --repetitions 5

A step is everything the trainer does with a loaded batch: bytes to floats, strong views, forward and backward
passes, losses, the check for non-finite values, the optimiser, the teacher's update. The bare passes are the
student's forward and backward passes, through extra heads too, and the teacher's forward passes, recorded from a
step and made on as many images, with a loss that costs nothing. Both are measured in turns in one process on one
thread, in CPU time of the process. Reported are medians, the ratio of step to passes, and the share of the step that is
neither passes nor the optimiser's own arithmetic.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from evenseg.config import Config, override_config
from evenseg.data.allocator import keep_freed_memory
from evenseg.data.batches import RawBatch
from evenseg.networks.mode import eval_mode
from evenseg.training.probe import probe_step, random_batch
from evenseg.training.step import OptimizerStep

METHODS = ("supervised", "mean_teacher", "cutmix_seg", "classmix", "fixmatch", "unimatch", "ael", "c3", "cps", "u2pl")
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


class Pass(NamedTuple):
    """How a network was called: on so many images, with or without gradient, in a mode, with these keywords."""

    network: torch.nn.Module
    images: int
    with_gradient: bool
    training: bool
    keywords: dict[str, Any]


def passes_of(step: OptimizerStep, raw: RawBatch) -> list[Pass]:
    """Every pass that a step makes."""
    found: list[Pass] = []
    hooks = [
        network.register_forward_pre_hook(
            lambda network, inputs, keywords: found.append(
                Pass(network, len(inputs[0]), torch.is_grad_enabled(), network.training, keywords)
            ),
            with_kwargs=True,
        )
        for network in step.method.networks()
    ]
    step(0, [raw])
    for hook in hooks:
        hook.remove()
    return found


def bare_passes(step: OptimizerStep, raw: RawBatch, size: int) -> Callable[[], None]:
    passes = [
        (each, torch.rand(each.images, 3, size, size).to(memory_format=torch.channels_last))
        for each in passes_of(step, raw)
    ]
    gradients: dict[tuple[int, int], torch.Tensor] = {}  # of each output of each pass, made once

    def gradient(place: tuple[int, int], output: torch.Tensor) -> torch.Tensor:
        if place not in gradients:
            # in the layout of the output, whose way back is the quicker one
            gradients[place] = torch.rand_like(output, dtype=torch.float32) / output[:, 0].numel()
        return gradients[place].to(output.dtype)

    def run() -> None:
        outputs = {}
        with step.fabric.autocast():
            for index, (each, image) in enumerate(passes):
                mode = nullcontext() if each.training == each.network.training else eval_mode(each.network)
                with torch.set_grad_enabled(each.with_gradient), mode:
                    output = each.network(image, **each.keywords)
                if each.with_gradient:  # extra heads and branches are a part of the network
                    branches = [logits for name, logits in output.coarse.items() if name != "class"]
                    every = [output.logits, *output.heads.values(), *branches]
                    outputs |= {(index, head): o for head, o in enumerate(every)}
        torch.autograd.backward(list(outputs.values()), [gradient(*item) for item in outputs.items()])
        for parameter in step.method.parameters():
            parameter.grad = None

    return run


def cpu_seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def timed_optimizer(optimizer: torch.optim.Optimizer) -> list[float]:
    """A list to which the CPU seconds of every step of the optimiser will be added."""
    begin, seconds = [0.0], list[float]()
    optimizer.register_step_pre_hook(lambda *_: begin.__setitem__(0, time.process_time()))
    optimizer.register_step_post_hook(lambda *_: seconds.append(time.process_time() - begin[0]))
    return seconds


def measure(method: str, encoder: str, precision: str, size: int, batch: int, repetitions: int) -> list[float]:
    """Median CPU seconds of a step, of its bare passes, and of the optimiser."""
    config = config_of(method, encoder, precision, size, batch)
    step = probe_step(config, CLASSES)
    raw = random_batch(config, CLASSES, step.method.wanted_views())
    bare = bare_passes(step, raw, size)
    optimizer = timed_optimizer(step.optimizer.optimizer)
    steps, passes = [], []
    for index in range(repetitions + 2):
        seconds, network = cpu_seconds(lambda i=index: step(i, [raw])), cpu_seconds(bare)
        if index >= 2:  # the first ones allocate
            steps.append(seconds)
            passes.append(network)
    return [statistics.median(seconds) for seconds in (steps, passes, optimizer[2:])]


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
    print(f"{'method':14}{'precision':>12}{'step s':>9}{'passes s':>10}{'optimiser s':>13}{'ratio':>8}{'rest':>8}")
    for method in options.methods:
        for precision in options.precisions:
            kind = (method, options.encoder, precision, options.size, options.batch)
            step, passes, optimizer = measure(*kind, options.repetitions)
            rest = (step - passes - optimizer) / step
            figures = f"{step:9.3f}{passes:10.3f}{optimizer:13.3f}{step / passes:8.3f}{rest:8.1%}"
            print(f"{method:14}{precision:>12}{figures}", flush=True)


if __name__ == "__main__":
    main()
