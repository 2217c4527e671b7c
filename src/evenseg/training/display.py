"""What a person sees of a run: a live line on a terminal, a plain line at each logging point elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """Progress of a run, with speed and time left.

    Args:
        total: steps of the run. start: steps done before. images: images per step.
        enabled: False on all ranks but the first.
    """

    def __init__(self, total: int, *, start: int, images: int, enabled: bool = True) -> None:
        self._total, self._images, self._enabled = total, images, enabled
        self._live = enabled and sys.stderr.isatty()
        self._mark = (time.perf_counter(), start)
        self._progress = Progress(
            TextColumn("[bold]train"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            disable=not self._live,
        )
        self._task = self._progress.add_task("train", total=total, completed=start, text="")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, step: int) -> None:
        """``step`` steps are done."""
        if self._live:
            self._progress.update(self._task, completed=step)

    def lap(self, step: int) -> tuple[int, float]:
        """Steps and seconds since the last call."""
        now = time.perf_counter()
        before, done = self._mark
        self._mark = (now, step)
        return step - done, max(now - before, 1e-9)

    def pause(self, step: int) -> None:
        """Starts the clock of ``lap`` anew, so that validation does not count as slow training."""
        self._mark = (time.perf_counter(), step)

    def report(self, step: int, losses: dict[str, float], lr: float, speed: float) -> None:
        """One logging point: losses, learning rate, images per second, time left."""
        left = (self._total - step) / max(speed, 1e-9)
        text = "  ".join(f"{name} {value + 0.0:.3f}" for name, value in losses.items())  # + 0.0: no "-0.000"
        text += f"  lr {lr:.2e}  {speed * self._images:.1f} images/s  {duration(left)} left"
        if self._live:
            self._progress.update(self._task, text=text)
        else:
            self.say(f"step {step}/{self._total}  {text}")

    def say(self, text: str) -> None:
        """A plain line: above the live display, or on standard output."""
        if not self._enabled:
            return
        if self._live:
            self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)


def duration(seconds: float) -> str:
    """``h:mm:ss`` or ``m:ss``.

    >>> duration(3725)
    '1:02:05'
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def check_progress(enabled: bool) -> Callable[[int, int, str], None] | None:
    """A progress callback ``(done, total, what)`` for work before the run folder exists; None off a terminal."""
    if not enabled or not sys.stderr.isatty():
        return None
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, int] = {}

    def report(done: int, total: int, what: str) -> None:
        if what not in tasks:
            if not tasks:
                progress.start()
            tasks[what] = progress.add_task(what, total=total)
        progress.update(tasks[what], completed=done)  # type: ignore[arg-type]
        if all(task.finished for task in progress.tasks):
            progress.stop()
            tasks.clear()

    return report
