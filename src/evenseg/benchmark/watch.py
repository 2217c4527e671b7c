"""What a person sees of a plan in progress: a live table on a terminal, a line at each change elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from evenseg.benchmark.plan import RunSpec
from evenseg.benchmark.pool import Pool, Running
from evenseg.benchmark.trainings import trainings
from evenseg.training.display import duration


class _Mark(NamedTuple):
    step: int
    time: float


class Watch:
    """Call it with the pool; a context, for the live table.

    Args:
        output: the folder of the run folders.
        states: runs that are not to be trained, and why: ``finished``, ``kept``, ``changed``.
        specs: all runs of the plan.
        jobs: runs at a time.
    """

    def __init__(self, output: Path, specs: list[RunSpec], states: dict[str, str], *, jobs: int) -> None:
        self._output, self._specs, self._states, self._jobs = output, specs, dict(states), jobs
        self._first: dict[str, _Mark] = {}
        self._trainings = {spec.name: trainings(spec.config) for spec in specs}
        self._steps = {name: sum(each.steps for each in several) for name, several in self._trainings.items()}
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=2, transient=True) if sys.stderr.isatty() else None

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, pool: Pool) -> None:
        """Shows where the pool stands."""
        for run in pool.running:
            self._change(run.spec.name, "training")
        for outcome in pool.outcomes:
            stopped = pool.stopped_by is not None and outcome.code
            text = "stopped" if stopped else f"failed: {outcome.message}" if outcome.code else "finished"
            self._change(outcome.spec.name, text)
        if self._live is not None:
            self._live.update(self._table(pool))

    def _change(self, name: str, state: str) -> None:
        if self._states.get(name) == state:
            return
        self._states[name] = state
        if self._live is None:
            print(f"{name}: {state}", flush=True)

    def _table(self, pool: Pool) -> Table:
        table = Table(title=self._title(pool))
        for column in ("run", "state", "step", "left"):
            table.add_column(column, justify="left" if column in ("run", "state") else "right", no_wrap=True)
        running = {run.spec.name: run for run in pool.running}
        for spec in self._specs:
            step, left = "", ""
            if spec.name in running:
                done, seconds = self._progress(running[spec.name])
                step, left = f"{done}/{self._steps[spec.name]}", "" if seconds is None else duration(seconds)
            table.add_row(spec.name, self._states.get(spec.name, "waiting")[:60], step, left)
        return table

    def _title(self, pool: Pool) -> str:
        """Runs done and time left, from the seconds per step seen so far."""
        done = sum(state in ("finished", "kept") for state in self._states.values())
        speeds, left = [], 0.0
        for run in pool.running:
            step, seconds = self._progress(run)
            if seconds is not None:
                speeds.append(seconds / max(self._steps[run.spec.name] - step, 1))
                left += seconds
        text = f"{done} of {len(self._specs)} runs done"
        if speeds:
            waiting = sum(self._steps[spec.name] for spec in pool.waiting) * sum(speeds) / len(speeds)
            text += f", about {duration((left + waiting) / self._jobs)} left"
        return text

    def _progress(self, run: Running) -> tuple[int, float | None]:
        """Steps of a run that are done, and the seconds it has to go as far as its pace since the start tells."""
        step = sum(each.done(self._output / run.spec.name) for each in self._trainings[run.spec.name])
        first = self._first.setdefault(run.spec.name, _Mark(step, time.monotonic()))
        if step <= first.step:
            return step, None
        pace = (time.monotonic() - first.time) / (step - first.step)
        return step, (self._steps[run.spec.name] - step) * pace
