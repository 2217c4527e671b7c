"""What a run tells while it trains: to its log, with the alarms that this gives rise to, and to the display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evenseg.data.dataset import DataSplits
from evenseg.methods.examine import HEALTH
from evenseg.training.alarms import Alarms
from evenseg.training.display import Display
from evenseg.training.health import health_record
from evenseg.training.log import MetricsLog


class Recorder:
    """Writes records; on all ranks but the first it does nothing.

    Args:
        folder: the run folder.
        splits: for the names and frequencies of the classes.
        display: shows what is told.
        step: the step training resumes from.
        tensorboard: also write TensorBoard events.
        enabled: whether this is the first rank.
    """

    def __init__(
        self, folder: Path, splits: DataSplits, display: Display, *, step: int, tensorboard: bool, enabled: bool
    ) -> None:
        self._names, self._frequency = splits.classes.names, torch.from_numpy(splits.class_frequency)
        self._display = display
        self._log = MetricsLog(folder, step=step, tensorboard=tensorboard) if enabled else None
        if self._log is not None:
            self._alarms = Alarms(self._names, self._frequency.tolist(), self._log.records())

    def write(self, record: dict[str, Any]) -> None:
        """A record, and the alarms that it gives rise to."""
        if self._log is None:
            return
        self._log.write(record)
        for alarm in self._alarms.see(record):
            self._log.write(alarm)
            self._display.say(f"step {alarm['step']}  alarm: {alarm['text']}")

    def training(self, done: int, means: dict[str, Tensor], *, lr: float, speed: float) -> None:
        """The means since the last logging point: scalars, (C,) vectors, and the sums of the pseudo-labels.

        ``speed`` is in steps per second.
        """
        values = {name: float(value) for name, value in means.items() if not value.ndim}
        vectors = {name: value for name, value in means.items() if value.ndim and name != HEALTH}
        losses = {name: value for name, value in values.items() if name == "loss" or name.startswith("loss/")}
        self._display.report(done, losses, lr, speed)
        per_class = {
            f"per_class_{name}": dict(zip(self._names, value.tolist(), strict=True)) for name, value in vectors.items()
        }
        self.write({"step": done, "split": "train", **values, **per_class, "lr": lr})
        if HEALTH in means:
            self.write({"step": done, "split": "health", **health_record(means[HEALTH], self._names, self._frequency)})

    def close(self) -> None:
        """Flushes what is left."""
        if self._log is not None:
            self._log.close()
