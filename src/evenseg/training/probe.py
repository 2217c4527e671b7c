"""What a step of a configuration costs, found out on random images: no data are read, nothing is written."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from evenseg.config import Config
from evenseg.data.batches import RawBatch
from evenseg.data.dataset import SUBCLASS
from evenseg.training.build import build_method
from evenseg.training.fabric import make_fabric
from evenseg.training.step import OptimizerStep
from evenseg.types import DataFacts, ViewSpec

REPETITIONS = 3  # of which the first allocates


class Cost(NamedTuple):
    """supervised_seconds, seconds: of a step before and after the unlabeled images come in. state_bytes: of the
    method and its optimiser, the size of ``last.ckpt``. method_bytes: of the method, the size of ``best.ckpt``."""

    supervised_seconds: float
    seconds: float
    state_bytes: int
    method_bytes: int


def probe(config: Config, num_classes: int) -> Cost:
    """Cost of the steps of a run, measured on random images of its crop size, without loading and validation."""
    step = probe_step(config, num_classes)
    views, first = step.method.wanted_views(), step.method.supervised_steps
    seconds = _seconds(step, config, num_classes, first, views)
    only_labeled = views._replace(unlabeled=False)
    before = _seconds(step, config, num_classes, 0, only_labeled) if views.unlabeled and first else seconds
    method = sum(value.nbytes for value in step.method.state_dict().values())
    optimizer = sum(
        value.nbytes
        for state in step.optimizer.state_dict()["state"].values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    return Cost(before, seconds, method + optimizer, method)


def probe_step(config: Config, num_classes: int) -> OptimizerStep:
    """The step of a configuration with random weights, which takes batches from ``random_batch``."""
    return OptimizerStep(
        build_method(config, random_facts(config, num_classes), weights=None), config, make_fabric(config.train)
    )


def random_facts(config: Config, num_classes: int) -> DataFacts:
    """What a method is told of data of which nothing is known: all classes alike, in every image."""
    labeled, unlabeled = config.train.labeled_batch, config.train.unlabeled_batch
    frequency = torch.full((num_classes,), 1000, dtype=torch.int64)
    names = tuple(f"class {number}" for number in range(num_classes))
    presence = torch.ones(num_classes, labeled, dtype=torch.bool)
    subclasses = torch.full((num_classes,), _subclasses(num_classes))
    return DataFacts(names, frequency, labeled, 2 * unlabeled, labeled, unlabeled, presence, subclasses)


def random_batch(config: Config, num_classes: int, views: ViewSpec) -> RawBatch:
    """One micro-batch of noise with blocks of labels, of the size a single process gets and with all that is wanted."""
    train, (height, width) = config.train, config.data.crop
    generator = torch.Generator().manual_seed(0)

    def noise(batch: int) -> torch.Tensor:
        return torch.randint(0, 256, (batch, height, width, 3), generator=generator, dtype=torch.uint8)

    labeled, extra = train.labeled_batch // train.micro_batches, train.unlabeled_batch // train.micro_batches
    blocks = torch.randint(0, num_classes, (labeled, -(-height // 32), -(-width // 32)), generator=generator)
    label = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, :height, :width]
    label = label.to(torch.uint8 if num_classes <= 255 else torch.int32)
    subclass = label.int() * _subclasses(num_classes) + torch.arange(width, dtype=torch.int32) % _subclasses(
        num_classes
    )
    raw = RawBatch(noise(labeled), label, torch.arange(labeled), {SUBCLASS: subclass})
    if views.paste is not None:
        raw = raw._replace(
            paste_image=noise(labeled),
            paste_label=label.flip(0),
            paste_index=torch.arange(labeled),
            paste_maps={name: values.flip(0) for name, values in raw.labeled_maps.items()},
        )
    if config.data.pseudo_labeled is not None:
        pseudo = train.pseudo_batch // train.micro_batches
        repeated = label[torch.arange(pseudo) % labeled]
        raw = raw._replace(
            pseudo_labeled_image=noise(pseudo),
            pseudo_labeled_label=repeated,
            pseudo_labeled_index=torch.arange(pseudo),
        )
    if not views.unlabeled:
        return raw
    extra *= 2 if views.partners else 1
    valid = torch.ones(extra, height, width, dtype=torch.bool)
    return raw._replace(unlabeled_image=noise(extra), unlabeled_valid=valid, unlabeled_index=torch.arange(extra))


def _subclasses(num_classes: int) -> int:
    """Of each class: as many as fit into 8 bits."""
    return max(1, 254 // num_classes)


def _seconds(step: OptimizerStep, config: Config, num_classes: int, index: int, views: ViewSpec) -> float:
    batches = [random_batch(config, num_classes, views)] * config.train.micro_batches
    seconds = []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        logged = step(index, batches)
        float(logged["loss"])  # waits for the device
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
