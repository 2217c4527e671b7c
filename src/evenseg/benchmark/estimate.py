"""What a plan will take, before it is begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from evenseg.benchmark.plan import Plan
from evenseg.benchmark.run import standings
from evenseg.benchmark.trainings import trainings
from evenseg.config import Config
from evenseg.data.build import build_scored
from evenseg.errors import InputError
from evenseg.training.probe import Cost, probe

LIKELY_CLASSES = 21  # where the data cannot be looked at


class RunEstimate(NamedTuple):
    """A run with its state; steps still to train, in all rounds of a recipe, their seconds (loading, validation and the
    labeling between rounds come on top) and the bytes of its checkpoints: 0 where nothing is to be done."""

    name: str
    state: str
    steps: int
    seconds: float
    disk: int


class PlanEstimate(NamedTuple):
    """All runs, the seconds of the whole plan with ``jobs`` at a time, and the free bytes where it will lie."""

    runs: list[RunEstimate]
    jobs: int
    seconds: float
    free: int


def estimate(
    plan: Plan,
    output: Path,
    kept: Path | None,
    *,
    jobs: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PlanEstimate:
    """Measures a few steps of every kind of run that is to be trained, on random images."""
    listed = standings(plan, output, kept)
    todo = {spec.name: trainings(spec.config) for spec, state, _ in listed if state in ("new", "begun")}
    kinds = {_kind(each.config): each.config for several in todo.values() for each in several}
    costs: dict[str, Cost] = {}
    for index, (kind, config) in enumerate(kinds.items()):
        progress(index, len(kinds))
        costs[kind] = probe(config, _classes(config))
    runs = []
    for spec, state, change in listed:
        if spec.name not in todo:
            runs.append(RunEstimate(spec.name, f"{state}: {change}" if change else state, 0, 0.0, 0))
            continue
        steps, seconds, disk = 0, 0.0, 0
        for each in todo[spec.name]:
            cost, done = costs[_kind(each.config)], each.done(output / spec.name)
            steps += each.steps - done
            seconds += _seconds(each.config, cost, each.begin + done)
            disk += cost.state_bytes + cost.method_bytes
        runs.append(RunEstimate(spec.name, state, steps, seconds, disk))
    jobs = jobs or torch.cuda.device_count() or 1
    there = next(folder for folder in (output.resolve(), *output.resolve().parents) if folder.exists())
    return PlanEstimate(runs, jobs, sum(run.seconds for run in runs) / jobs, shutil.disk_usage(there).free)


def _kind(config: Config) -> str:
    """Runs of one kind cost the same: all but lists, seed and length agree."""
    train = config.train
    pseudo = train.pseudo_batch if config.data.pseudo_labeled is not None else 0
    return repr((config.method, config.network, config.data.crop, config.optim.name, train.labeled_batch)) + repr(
        (train.unlabeled_batch, pseudo, train.micro_batches, train.precision, train.accelerator, train.compile)
    )


def _classes(config: Config) -> int:
    for split in ("val", "test"):
        try:
            return build_scored(config.data, split, seed=config.seed).classes.num_classes
        except InputError:
            continue
    return LIKELY_CLASSES


def _seconds(config: Config, cost: Cost, done: int) -> float:
    """Seconds from step ``done`` to the end."""
    supervised = int(config.method_arguments.get("supervised_steps", 0))
    before = max(min(supervised, config.train.steps) - done, 0)
    return before * cost.supervised_seconds + (config.train.steps - done - before) * cost.seconds
