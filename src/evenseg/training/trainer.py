"""The step loop: from a method, its data and a configuration to checkpoints and a log."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from evenseg.components.requests import LAG
from evenseg.config import Config
from evenseg.data.dataset import DataSplits
from evenseg.data.loaders import RawBatch, build_loader
from evenseg.errors import InputError
from evenseg.functional.distributed import sum_over_ranks
from evenseg.inference.predict import Protocol
from evenseg.methods.base import Method
from evenseg.training import checkpoint
from evenseg.training.display import Display
from evenseg.training.faults import Faults
from evenseg.training.held_out import HeldOut
from evenseg.training.meter import Meter
from evenseg.training.pictures import Pictures
from evenseg.training.recorder import Recorder
from evenseg.training.signals import StopRequest
from evenseg.training.start import Earlier
from evenseg.training.step import OptimizerStep
from evenseg.training.timing import Timing
from evenseg.training.validate import figures, validate


class Stopped(Exception):
    """The run was asked to stop and has saved itself; ``signal`` says by what."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped at step {step}; the same command resumes the run")
        self.signal = number


class Progress(NamedTuple):
    """What a checkpoint holds besides weights."""

    step: int = 0  # completed steps
    best: float = -1.0  # mIoU on val of the headline network
    best_step: int = 0
    skipped: int = 0  # steps left out because of a non-finite loss
    unreadable: tuple[str, ...] = ()  # unlabeled images that could not be read, one message each


class Trainer:
    """Trains one method; ``fit`` continues from ``checkpoints/last.ckpt`` where there is one.

    Args:
        method: on any device.
        splits: the data.
        config: the resolved configuration.
        tail: names of the tail classes.
        protocol: how validation predicts.
        folder: the run folder.
        fabric: launched.
        earlier: the run whose state a new run goes on from; its method's part is loaded already.
    """

    def __init__(
        self,
        method: Method,
        splits: DataSplits,
        config: Config,
        tail: tuple[str, ...],
        protocol: Protocol,
        folder: Path,
        fabric: Fabric,
        earlier: Earlier | None = None,
    ) -> None:
        self.method, self.splits, self.config, self.tail = method, splits, config, tail
        self.protocol, self.folder, self.fabric = protocol, folder, fabric
        self._progress = Progress()
        self.meter = Meter()
        self.step = OptimizerStep(method, config, fabric)
        self.faults = Faults(config, splits, method, self.step.guard, self.save, tell=fabric.is_global_zero)
        self.pictures = Pictures(folder, splits.val, splits.classes, config.health.pictures)
        self.held_out = HeldOut(method, splits, config, fabric)
        self.timing = Timing(folder, fabric.device)
        if self.last.exists():
            self._resume()
        elif earlier is not None:
            self._go_on(earlier)

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self._progress._replace(skipped=self.faults.skipped, unreadable=self.faults.unreadable)

    @property
    def last(self) -> Path:
        """The checkpoint that training resumes from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def fit(self) -> Progress:
        """Trains to the last step.

        Raises:
            Stopped: SIGINT or SIGTERM arrived; the run is saved.
            InputError: a non-finite loss or an unreadable image too many; the run is saved.
        """
        config, total = self.config.train, self.config.train.steps
        first = self.fabric.is_global_zero
        images = config.labeled_batch + (config.unlabeled_batch if self.method.views.unlabeled else 0)
        images += config.pseudo_batch if self.splits.pseudo_labeled is not None else 0
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            display = stack.enter_context(Display(total, start=self.progress.step, images=images, enabled=first))
            start, board = self.progress.step, config.tensorboard
            recorder = Recorder(self.folder, self.splits, display, step=start, tensorboard=board, enabled=first)
            stack.callback(recorder.close)
            if self.progress.step and self.progress.step < total:
                display.say(f"resuming from step {self.progress.step}")
            for index, micro_batches in self._steps():
                for raw in micro_batches:
                    self.faults.note(raw)
                self.meter.add(self.step(index, micro_batches))
                done = index + 1
                self._progress = self._progress._replace(step=done)
                display.advance(done)
                logging = done % config.log_every == 0 or done == total
                if logging:
                    self._report(done, display, recorder)
                stopping = self._stopping(stop, logging)
                if done % config.validate_every == 0 or done == total:
                    if first:
                        self.pictures.seen(done, self.step.seen)
                    self._validate(done, display, recorder)
                saving = stopping or done % config.checkpoint_every == 0 or done == total
                if logging or saving:
                    self.meter.share()
                    self.faults.agree()
                if saving:
                    self.save()
                    if first:
                        self.timing.write()
                if stopping and done < total:
                    raise Stopped(stop.signal or signal.SIGTERM, done)
        return self.progress

    def _steps(self) -> Iterator[tuple[int, list[RawBatch]]]:
        """(step, its micro-batches) from the current step on."""
        train = self.config.train
        loader = build_loader(
            self.splits,
            self.config.data,
            seed=self.config.seed,
            views=self.method.wanted_views(),
            labeled_batch=train.labeled_batch,
            unlabeled_batch=train.unlabeled_batch,
            pseudo_labeled_batch=train.pseudo_batch,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            micro_batches=train.micro_batches,
            first_step=self.progress.step,
            last_step=train.steps,
            unlabeled_from=self.method.supervised_steps,
            labeled_maps=None if self.splits.subclasses is None else self.splits.subclasses.maps,
            asked={source: each.images_at for source, each in self.method.requests().items()},
            lag=LAG,
        )
        with closing(loader):
            micro_batches: list[RawBatch] = []
            for step, _, raw in loader:
                micro_batches.append(raw)
                if len(micro_batches) == train.micro_batches:
                    yield step, micro_batches
                    micro_batches = []

    # between steps

    def _report(self, done: int, display: Display, recorder: Recorder) -> None:
        means = self.meter.means()
        steps, seconds = display.lap(done)
        self.timing.add(steps, seconds)
        recorder.training(done, means, lr=self.step.lr, speed=steps / seconds)

    def _stopping(self, stop: StopRequest, logging: bool) -> bool:
        """Whether to save and stop now; ranks agree at logging points."""
        if self.fabric.world_size == 1:
            return stop.signal is not None
        if not logging:
            return False
        asked = torch.tensor(float(stop.signal is not None), device=self.fabric.device)
        return bool(sum_over_ranks(asked) > 0)

    def _validate(self, done: int, display: Display, recorder: Recorder) -> None:
        if (held_out := self.held_out.look(done)) is not None:
            recorder.write(held_out)
        if self.splits.val is None:
            display.pause(done)
            return
        self.share_buffers()
        scores = validate(self.method, self.splits.val, self.tail, self.protocol, self.fabric)
        for role, score in scores.items():
            display.say(f"step {done}  val {role}: {figures(score)}")
            recorder.write({"step": done, "split": "val", "network": role, **score})
        headline = list(scores.values())[-1]["miou"]
        if headline is not None and headline > self.progress.best:
            self._progress = self._progress._replace(best=headline, best_step=done)
            if self.fabric.is_global_zero:
                content = {"method": self.method.state_dict(), "progress": self.progress._asdict()}
                checkpoint.save(self.folder / "checkpoints" / "best.ckpt", content)
        if self.fabric.is_global_zero:
            self.pictures.predicted(done, self.method.predictor(), self.protocol, self.fabric)
        display.pause(done)

    def share_buffers(self) -> None:
        """Gives all ranks the first one's buffers (running statistics), which are those that are saved."""
        if self.fabric.world_size > 1:
            for buffer in self.method.buffers():
                torch.distributed.broadcast(buffer, src=0)

    # saving and resuming

    def save(self) -> None:
        """Writes ``last.ckpt``; no rank waits for another, so that one can save and stop alone."""
        if self.fabric.is_global_zero:
            content = {
                "method": self.method.state_dict(),
                "optimizer": self.step.optimizer.state_dict(),
                "precision": self.fabric._precision.state_dict(),
                "progress": self.progress._asdict(),
                "meter": self.meter.state_dict(),
            }
            checkpoint.save(self.last, content)

    def _go_on(self, earlier: Earlier) -> None:
        earlier.restore_optimizer(self.step.optimizer)
        self.fabric._precision.load_state_dict(earlier.content["precision"])
        self._progress = Progress(step=earlier.step)

    def _resume(self) -> None:
        content = checkpoint.load(self.last)
        try:
            self.method.load_state_dict(content["method"])
            self.step.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError, KeyError):
            raise InputError(
                f"{self.last}: does not fit this method (has its code changed since?); choose another --output"
            ) from None
        self.fabric._precision.load_state_dict(content["precision"])
        progress = content["progress"]
        self._progress = Progress(**{**progress, "unreadable": tuple(progress["unreadable"])})
        self.faults.resume(self._progress.skipped, self._progress.unreadable)
        if "meter" in content:  # not in checkpoints of version 0.1.0
            self.meter.load_state_dict(content["meter"], self.fabric.device)
