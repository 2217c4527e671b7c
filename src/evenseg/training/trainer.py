"""The step loop: from a method, its data and a configuration to checkpoints and a log."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor

from evenseg.config import Config
from evenseg.data.dataset import DataSplits
from evenseg.data.loaders import RawBatch, batch_names, build_loader, to_batch
from evenseg.errors import InputError
from evenseg.functional import random
from evenseg.functional.distributed import gather_over_ranks, sum_over_ranks
from evenseg.inference.predict import Protocol
from evenseg.methods.base import HEALTH, Method
from evenseg.training import checkpoint
from evenseg.training.alarms import Alarms
from evenseg.training.display import Display
from evenseg.training.fabric import seed_step
from evenseg.training.guard import Guard
from evenseg.training.health import health_record
from evenseg.training.held_out import HeldOut
from evenseg.training.log import MetricsLog
from evenseg.training.meter import Meter
from evenseg.training.optim import build_optimizer, learning_rate_factor, set_learning_rate
from evenseg.training.signals import StopRequest
from evenseg.training.timing import Timing
from evenseg.training.validate import figures, validate
from evenseg.types import Step, StepOutput


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
    ) -> None:
        self.method, self.splits, self.config, self.tail = method, splits, config, tail
        self.protocol, self.folder, self.fabric = protocol, folder, fabric
        self.progress = Progress()
        self.meter = Meter()
        train = config.train
        method.to(fabric.device)  # before the optimiser makes its memory
        if train.channels_last:
            method.to(memory_format=torch.channels_last)
        if train.sync_batchnorm and fabric.world_size > 1:
            convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]  # torch's own drops timm's activations
        self.scaled = getattr(fabric._precision, "scaler", None) is not None
        # a fused optimiser undoes the scaling inside its step, too late to clip what it then applies
        fused = not (self.scaled and train.clip_norm is not None)
        optimizer = build_optimizer(method.param_groups(), config.optim, fused=fused)
        self.module, self.optimizer = fabric.setup(method, optimizer)
        if train.compile:
            method.student.compile()
            if method.teacher is not None:
                method.teacher.network.compile()
        self.guard = Guard(method)
        self.held_out = HeldOut(method, splits, config, fabric)
        self.timing = Timing(folder, fabric.device)
        self._resume()
        self.agreed = len(self.progress.unreadable)  # how many of these all ranks know of

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
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            display = stack.enter_context(Display(total, start=self.progress.step, images=images, enabled=first))
            log = MetricsLog(self.folder, step=self.progress.step, tensorboard=config.tensorboard) if first else None
            if log is not None:
                stack.callback(log.close)
            record = self._watched(log, display) if log is not None else _discard
            if self.progress.step and self.progress.step < total:
                display.say(f"resuming from step {self.progress.step}")
            for index, micro_batches in self._steps():
                for raw in micro_batches:
                    self._note_unreadable(raw)
                self.meter.add(self._step(index, micro_batches))
                done = index + 1
                self.progress = self.progress._replace(step=done)
                display.advance(done)
                logging = done % config.log_every == 0 or done == total
                if logging:
                    self._report(done, display, record)
                stopping = self._stopping(stop, logging)
                if done % config.validate_every == 0 or done == total:
                    self._validate(done, display, record)
                saving = stopping or done % config.checkpoint_every == 0 or done == total
                if logging or saving:
                    self._agree(done)
                if saving:
                    self.save()
                    if first:
                        self.timing.write()
                if stopping and done < total:
                    raise Stopped(stop.signal or signal.SIGTERM, done)
        return self.progress

    # one step

    def _steps(self) -> Iterator[tuple[int, list[RawBatch]]]:
        """(step, its micro-batches) from the current step on."""
        train = self.config.train
        loader = build_loader(
            self.splits,
            self.config.data,
            seed=self.config.seed,
            views=self.method.views,
            labeled_batch=train.labeled_batch,
            unlabeled_batch=train.unlabeled_batch,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            micro_batches=train.micro_batches,
            first_step=self.progress.step,
            last_step=train.steps,
            unlabeled_from=self.method.supervised_steps,
        )
        with closing(loader):
            micro_batches: list[RawBatch] = []
            for step, _, raw in loader:
                micro_batches.append(raw)
                if len(micro_batches) == train.micro_batches:
                    yield step, micro_batches
                    micro_batches = []

    def _step(self, index: int, micro_batches: list[RawBatch]) -> dict[str, Tensor]:
        """One optimiser step; returns what to log, on the device."""
        train, method = self.config.train, self.method
        set_learning_rate(self.optimizer.optimizer, learning_rate_factor(index, train.steps, self.config.optim))
        seed_step(self.config.seed, index, self.fabric.global_rank)
        self.guard.remember()
        logged: dict[str, Tensor] = {}
        step = self._key(index, 0)
        for micro, raw in enumerate(micro_batches):
            step = self._key(index, micro)
            batch = to_batch(
                raw,
                self.fabric.device,
                strong=self.config.data.strong,
                views=method.views,
                seed=self.config.seed,
                step=index,
                unlabeled_slot=step.unlabeled_slot,
                channels_last=train.channels_last,
            )
            with self.fabric.no_backward_sync(self.module, enabled=micro < len(micro_batches) - 1):
                output: StepOutput = self.module(batch, step)
                loss = torch.stack(list(output.losses.values())).sum() / len(micro_batches)
                self.fabric.backward(loss)
            values = {"loss": loss.detach(), **{k: v.detach() / len(micro_batches) for k, v in _values(output)}}
            logged = {k: logged[k] + v for k, v in values.items()} if logged else values
        self._update(index, logged)
        method.on_step_end(step)
        return logged

    def _update(self, index: int, logged: dict[str, Tensor]) -> None:
        """The optimiser's step, left out on the device if the loss or a gradient is not finite."""
        if self.config.train.clip_norm is not None:
            self.fabric.clip_gradients(
                self.module, self.optimizer, max_norm=self.config.train.clip_norm, error_if_nonfinite=False
            )
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        # a gradient scaler probes for the largest scale by overflow: there only the loss is judged
        bad = self.guard.judge(index, logged["loss"], [] if self.scaled else gradients)
        if not self.scaled:
            self.optimizer.optimizer.found_inf = bad
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.guard.restore(bad)

    def _key(self, index: int, micro: int) -> Step:
        """The ``Step`` of a micro-batch of this rank."""
        train, every = self.config.train, self.config.health.every
        part = self.fabric.global_rank * train.micro_batches + micro
        parts = self.fabric.world_size * train.micro_batches
        return Step(
            index,
            train.steps,
            random.generator(self.config.seed, "step", index),
            self.config.seed,
            part * (train.labeled_batch // parts),
            part * (train.unlabeled_batch // parts),
            health=every > 0 and index % every == 0,
        )

    # between steps

    def _report(self, done: int, display: Display, record: Callable[[dict[str, Any]], None]) -> None:
        means = self.meter.means()
        health = means.pop(HEALTH, None)
        values = {name: float(value) for name, value in means.items()}
        steps, seconds = display.lap(done)
        self.timing.add(steps, seconds)
        group = self.optimizer.param_groups[-1]
        lr = float(group["lr"])
        losses = {k: v for k, v in values.items() if k == "loss" or k.startswith("loss/")}
        display.report(done, losses, lr, steps / seconds)
        record({"step": done, "split": "train", **values, "lr": lr})
        if health is not None:
            names, frequency = self.splits.classes.names, torch.from_numpy(self.splits.class_frequency)
            record({"step": done, "split": "health", **health_record(health, names, frequency)})

    def _watched(self, log: MetricsLog, display: Display) -> Callable[[dict[str, Any]], None]:
        """Writes records to the log, and the alarms that they give rise to to the log and the display."""
        alarms = Alarms(self.splits.classes.names, self.splits.class_frequency.tolist(), log.records())

        def record(values: dict[str, Any]) -> None:
            log.write(values)
            for alarm in alarms.see(values):
                log.write(alarm)
                display.say(f"step {alarm['step']}  alarm: {alarm['text']}")

        return record

    def _agree(self, done: int) -> None:
        """Where all ranks meet between steps: they share what a checkpoint holds, and stop together if they must."""
        self.meter.share()
        new = self._share_unreadable()
        self._report_bad(done)
        limit = self.config.data.max_unreadable
        if new and self.agreed > limit:
            self.save()
            raise InputError(f"{new[-1]}, or raise data.max_unreadable (now {limit}; {self.agreed} images so far)")

    def _report_bad(self, done: int) -> None:
        """Stops the run if more steps than allowed had a non-finite loss; the state is saved first."""
        bad = self.guard.bad_steps()
        if not bad:
            return
        skipped = self.progress.skipped + len(bad)
        self.progress = self.progress._replace(step=done, skipped=skipped)
        names = ", ".join(self._names(bad[0]))
        if skipped > self.config.train.max_skipped:
            self.save()
            raise InputError(
                f"the loss or gradient of step {bad[0]} is not finite (its update was left out, {skipped} so far); "
                f"look at its images ({names}), then resume with a larger train.max_skipped or begin anew with a "
                "lower optim.lr"
            )
        if self.fabric.is_global_zero:
            print(f"step {bad[0]}: loss or gradient not finite, update left out; images: {names}", flush=True)

    def _names(self, step: int) -> list[str]:
        train = self.config.train
        return batch_names(
            self.splits,
            seed=self.config.seed,
            step=step,
            labeled_batch=train.labeled_batch,
            unlabeled_batch=train.unlabeled_batch if self.method.uses_unlabeled(step) else 0,
        )

    def _note_unreadable(self, raw: RawBatch) -> None:
        """Notes what this rank could not read; stops it, alone, where its batch cannot be made."""
        if raw.fatal:
            self._report_bad(self.progress.step)
            self.save()
            raise InputError(raw.fatal)
        known = self.progress.unreadable
        new = [message for message in dict.fromkeys(raw.unreadable) if message not in known]
        self.progress = self.progress._replace(unreadable=(*known, *new))
        for message in new:
            print(f"left out: {message}", flush=True)

    def _share_unreadable(self) -> tuple[str, ...]:
        """Gives all ranks the messages of all since the last time, and returns them."""
        agreed, own = self.progress.unreadable[: self.agreed], self.progress.unreadable[self.agreed :]
        new = tuple(dict.fromkeys(chain.from_iterable(gather_over_ranks(own))))
        self.progress = self.progress._replace(unreadable=agreed + new)
        self.agreed = len(agreed + new)
        return new

    def _stopping(self, stop: StopRequest, logging: bool) -> bool:
        """Whether to save and stop now; ranks agree at logging points."""
        if self.fabric.world_size == 1:
            return stop.signal is not None
        if not logging:
            return False
        asked = torch.tensor(float(stop.signal is not None), device=self.fabric.device)
        return bool(sum_over_ranks(asked) > 0)

    def _validate(self, done: int, display: Display, record: Callable[[dict[str, Any]], None]) -> None:
        if (held_out := self.held_out.look(done)) is not None:
            record(held_out)
        if self.splits.val is None:
            return
        self.share_buffers()
        scores = validate(self.method, self.splits.val, self.tail, self.protocol, self.fabric)
        for role, score in scores.items():
            display.say(f"step {done}  val {role}: {figures(score)}")
            record({"step": done, "split": "val", "network": role, **score})
        headline = list(scores.values())[-1]["miou"]
        if headline is not None and headline > self.progress.best:
            self.progress = self.progress._replace(best=headline, best_step=done)
            if self.fabric.is_global_zero:
                content = {"method": self.method.state_dict(), "progress": self.progress._asdict()}
                checkpoint.save(self.folder / "checkpoints" / "best.ckpt", content)
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
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric._precision.state_dict(),
                "progress": self.progress._asdict(),
                "meter": self.meter.state_dict(),
            }
            checkpoint.save(self.last, content)

    def _resume(self) -> None:
        if not self.last.exists():
            return
        content = checkpoint.load(self.last)
        try:
            self.method.load_state_dict(content["method"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError, KeyError):
            raise InputError(
                f"{self.last}: does not fit this method (has its code changed since?); choose another --output"
            ) from None
        self.fabric._precision.load_state_dict(content["precision"])
        progress = content["progress"]
        self.progress = Progress(**{**progress, "unreadable": tuple(progress["unreadable"])})
        if "meter" in content:  # not in checkpoints of version 0.1.0
            self.meter.load_state_dict(content["meter"], self.fabric.device)


def _values(output: StepOutput) -> Iterator[tuple[str, Tensor]]:
    for name, value in output.losses.items():
        yield f"loss/{name}", value
    yield from output.log.items()


def _discard(record: dict[str, Any]) -> None:
    """Ranks but the first write no log."""
