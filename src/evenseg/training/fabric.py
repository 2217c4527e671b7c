"""Devices, ranks and precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from evenseg.config import TrainConfig
from evenseg.errors import InputError
from evenseg.functional.random import key


def make_fabric(config: TrainConfig) -> Fabric:
    """The Fabric of a run: one process, or the ranks that ``torchrun`` has started.

    Raises:
        InputError: the accelerator is not there.
    """
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"  # mps on request: it lacks operators
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("train.accelerator: no CUDA device is visible; use auto or cpu")
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise InputError("train.accelerator: no MPS device is available; use auto or cpu")
    distributed = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = Fabric(
        accelerator=accelerator,
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if distributed else 1,
        num_nodes=int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"]) if distributed else 1,
        strategy="ddp" if distributed else "auto",
        precision=precision(config.precision, accelerator),  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def precision(asked: str, accelerator: str) -> str:
    """Fabric's name of the precision: ``auto`` is bf16-mixed where the hardware computes bf16, else 32."""
    if asked == "32":
        return "32-true"
    if asked != "auto":
        return asked
    if accelerator == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported()
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds torch's own generators (dropout) from (seed, step, rank)."""
    torch.manual_seed(key(seed, "torch", step, rank))


@contextmanager
def ends_with_others() -> Iterator[None]:
    """Where another rank has ended, which says why itself, a line in place of the traceback of a lost connection.

    So with gloo. With nccl a rank waits for the lost one until the launcher ends it.

    Raises:
        InputError: another rank has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if "by peer" not in str(error):  # the connection was closed, or reset
            raise
        raise InputError("another process of this run has ended; its own message says why") from None
