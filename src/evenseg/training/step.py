"""One optimiser step: micro-batches forward and backward, the guarded update, the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from lightning_fabric import Fabric
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor

from evenseg.config import Config
from evenseg.data.loaders import RawBatch, to_batch
from evenseg.functional import random
from evenseg.methods.base import Method
from evenseg.training.fabric import seed_step
from evenseg.training.guard import Guard
from evenseg.training.optim import build_optimizer, learning_rate_factor, parameter_groups, set_learning_rate
from evenseg.types import Seen, Step, StepOutput


class OptimizerStep:
    """Puts a method on its device, wraps it for all ranks, and takes its steps.

    Args:
        method: on any device.
        config: the resolved configuration.
        fabric: launched.
    """

    def __init__(self, method: Method, config: Config, fabric: Fabric) -> None:
        self.method, self.fabric, self._config = method, fabric, config
        train = config.train
        method.to(fabric.device)  # before the optimiser makes its memory
        if train.channels_last:
            method.to(memory_format=torch.channels_last)
        if train.sync_batchnorm and fabric.world_size > 1:
            convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]  # torch's own drops timm's activations
        self._scaled = getattr(fabric._precision, "scaler", None) is not None
        # a fused optimiser undoes the scaling inside its step, too late to clip what it then applies
        fused = not (self._scaled and train.clip_norm is not None)
        optimizer = build_optimizer(parameter_groups(method, config.optim), config.optim, fused=fused)
        self._module, self.optimizer = fabric.setup(method, optimizer)
        if train.compile:
            for network in method.networks():
                network.compile()
        self.guard = Guard(method)
        self._views = method.wanted_views()
        self.seen: Seen | None = None  # by the student in the last step, where it was to be pictured

    def __call__(self, index: int, micro_batches: Sequence[RawBatch]) -> dict[str, Tensor]:
        """Takes step ``index``; returns what to log, on the device."""
        train, method = self._config.train, self.method
        set_learning_rate(self.optimizer.optimizer, learning_rate_factor(index, train.steps, self._config.optim))
        seed_step(self._config.seed, index, self.fabric.global_rank)
        self.guard.remember()
        logged: dict[str, Tensor] = {}
        step = self._key(index, 0)
        self.seen = None
        for micro, raw in enumerate(micro_batches):
            step = self._key(index, micro)
            batch = to_batch(
                raw,
                self.fabric.device,
                strong=self._config.data.strong,
                views=self._views,
                seed=self._config.seed,
                step=index,
                unlabeled_slot=step.unlabeled_slot,
                channels_last=train.channels_last,
            )
            with self.fabric.no_backward_sync(self._module, enabled=micro < len(micro_batches) - 1):
                output: StepOutput = self._module(batch, step)
                loss = torch.stack(list(output.losses.values())).sum() / len(micro_batches)
                self.fabric.backward(loss)
            self.seen = self.seen or output.seen
            values = {"loss": loss.detach(), **{k: v.detach() / len(micro_batches) for k, v in _values(output)}}
            logged = {k: logged[k] + v for k, v in values.items()} if logged else values
        self._update(index, logged["loss"])
        method.on_step_end(step)
        return logged

    @property
    def lr(self) -> float:
        """The learning rate of the heads in the last step."""
        return float(self.optimizer.param_groups[-1]["lr"])

    def _update(self, index: int, loss: Tensor) -> None:
        """The optimiser's step, left out on the device if the loss or a gradient is not finite."""
        if self._config.train.clip_norm is not None:
            self.fabric.clip_gradients(
                self._module, self.optimizer, max_norm=self._config.train.clip_norm, error_if_nonfinite=False
            )
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        # a gradient scaler probes for the largest scale by overflow: there only the loss is judged
        bad = self.guard.judge(index, loss, [] if self._scaled else gradients)
        if not self._scaled:
            self.optimizer.optimizer.found_inf = bad
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.guard.restore(bad)

    def _key(self, index: int, micro: int) -> Step:
        """The ``Step`` of a micro-batch of this rank."""
        train, every = self._config.train, self._config.health.every
        part = self.fabric.global_rank * train.micro_batches + micro
        parts = self.fabric.world_size * train.micro_batches
        return Step(
            index,
            train.steps,
            random.generator(self._config.seed, "step", index),
            self._config.seed,
            part * (train.labeled_batch // parts),
            part * (train.unlabeled_batch // parts),
            health=every > 0 and index % every == 0,
            picture=(index + 1) % train.validate_every == 0 or index + 1 == train.steps,
        )


def _values(output: StepOutput) -> Iterator[tuple[str, Tensor]]:
    for name, value in output.losses.items():
        yield f"loss/{name}", value
    yield from output.log.items()
