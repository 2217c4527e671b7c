"""What a new run starts from in place of random or pretrained weights: an earlier run's state, or its network alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric.wrappers import _FabricOptimizer
from torch.optim import Optimizer

from evenseg.config import Config
from evenseg.errors import InputError
from evenseg.methods.base import Method
from evenseg.training import checkpoint
from evenseg.training.optim import build_optimizer, parameter_groups

_TEACHER, _STUDENT = "teacher.network.", "student."


class Earlier(NamedTuple):
    """The last checkpoint of an earlier run, whose state a new one goes on from."""

    path: Path
    content: dict[str, Any]

    @property
    def step(self) -> int:
        """Completed steps."""
        return int(self.content["progress"]["step"])

    def restore_optimizer(self, optimizer: Optimizer | _FabricOptimizer) -> None:
        """Gives the optimiser its memory, but not the settings, which are the new run's.

        Raises:
            InputError: it is of another kind.
        """
        state = self.content["optimizer"]
        settings = [{key: value for key, value in each.items() if key != "params"} for each in optimizer.param_groups]
        same_kind = [each.keys() for each in optimizer.param_groups] == [each.keys() for each in state["param_groups"]]
        try:
            if not same_kind:
                raise ValueError
            optimizer.load_state_dict(state)
        except (ValueError, KeyError):
            raise InputError(f"{self.path}: was written with another optimiser; continue with its optim.name") from None
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            group.update(own)


def load_earlier(path: Path, method: Method, config: Config) -> Earlier:
    """An earlier run's state, its method's part loaded into ``method``.

    Args:
        path: its ``last.ckpt``.
        method, config: of the new run.

    Raises:
        InputError: no such checkpoint, one that does not fit method or optimiser, or one with ``train.steps`` already.
    """
    earlier = Earlier(path, checkpoint.load(path))
    if "optimizer" not in earlier.content:
        raise InputError(f"{path}: holds weights alone; continue from a last.ckpt")
    if earlier.step >= config.train.steps:
        raise InputError(f"{path}: has {earlier.step} steps done already; set train.steps higher")
    try:
        method.load_state_dict(earlier.content["method"])
    except RuntimeError:
        raise InputError(f"{path}: does not fit this method; continue with the method and network of its run") from None
    earlier.restore_optimizer(
        build_optimizer(parameter_groups(method, config.optim), config.optim)
    )  # sees whether it would fit
    return earlier


def take_weights(path: Path, method: Method) -> None:
    """Gives the method's networks the weights of an earlier run's headline network.

    Args:
        path: any checkpoint of a run.
        method: of the new run, none of whose steps is done.

    Raises:
        InputError: no such checkpoint, or one that does not fit the network.
    """
    state = checkpoint.load(path)["method"]
    prefix = _TEACHER if any(name.startswith(_TEACHER) for name in state) else _STUDENT
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        method.start_from(weights)
    except RuntimeError:
        raise InputError(f"{path}: does not fit this network; start from a run with the same one") from None
