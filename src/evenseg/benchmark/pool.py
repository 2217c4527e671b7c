"""Trains the runs of a plan in processes of their own, one per GPU or a few on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from evenseg.benchmark.plan import RunSpec
from evenseg.config import dump
from evenseg.training.checkpoint import write_text

POLL_SECONDS = 0.5


class Outcome(NamedTuple):
    """How a run ended. code: its exit code. message: the last line it wrote, where it failed."""

    spec: RunSpec
    code: int
    message: str


class Running(NamedTuple):
    """A run in progress."""

    spec: RunSpec
    process: subprocess.Popen[bytes]
    slot: int
    started: float
    log: Path


class Pool:
    """Runs in progress and those that wait.

    Args:
        specs: to train, in this order; begun ones resume.
        output: the folder of the run folders; logs and configurations lie beside them.
        jobs: runs at a time.
        gpus: ids of the GPUs to deal out, one to a run; empty: all runs share the CPU's cores.
    """

    def __init__(self, specs: list[RunSpec], output: Path, *, jobs: int, gpus: list[str]) -> None:
        self.waiting = deque(specs)
        self.running: list[Running] = []
        self.outcomes: list[Outcome] = []
        self.stopped_by: int | None = None
        self._output, self._jobs, self._gpus = output, jobs, gpus

    def run(self, watch: Callable[[Pool], None]) -> list[Outcome]:
        """Trains all; a failed run does not stop the others. ``watch`` is called twice a second.

        Ctrl-C and SIGTERM are passed on: the runs save themselves, and the rest is left waiting.
        """
        with self._signals_passed_on():
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self._jobs and self.stopped_by is None:
                    self._start(self.waiting.popleft())
                time.sleep(POLL_SECONDS)
                for run in [run for run in self.running if run.process.poll() is not None]:
                    self.running.remove(run)
                    code = run.process.returncode
                    self.outcomes.append(Outcome(run.spec, code, _last_line(run.log) if code else ""))
                watch(self)
                if self.stopped_by is not None and not self.running:
                    break
        return self.outcomes

    def _start(self, spec: RunSpec) -> None:
        slot = min(set(range(self._jobs)) - {run.slot for run in self.running})
        config = self._output / "configs" / f"{spec.name}.yaml"
        log = self._output / "logs" / f"{spec.name}.log"
        write_text(config, dump(spec.config))
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "evenseg", "train", str(config), "--output", str(self._output / spec.name)]
        with open(log, "ab") as file:
            # a session of its own, or a Ctrl-C of the terminal would reach it twice
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._environment(slot), start_new_session=True
            )
        self.running.append(Running(spec, process, slot, time.monotonic(), log))

    def _environment(self, slot: int) -> dict[str, str]:
        environment = dict(os.environ)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        else:
            # as many threads as cores over all runs: more would make each of them several times as slow
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self._jobs)))
        return environment

    @contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        def pass_on(number: int, frame: FrameType | None) -> None:
            self.stopped_by = number
            for run in self.running:
                run.process.send_signal(signal.SIGTERM)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
