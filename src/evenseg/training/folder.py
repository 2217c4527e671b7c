"""The run folder: what a run leaves for people and for later commands."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from evenseg.config import Config, difference, dump, load_config
from evenseg.data.classes import Classes
from evenseg.data.dataset import DataSplits
from evenseg.errors import InputError
from evenseg.metrics.imbalance import TailClasses, tail_classes
from evenseg.training.checkpoint import write_text
from evenseg.types import DataFacts


class RunFacts(NamedTuple):
    """What a run knows of its data: enough to predict without them.

    class_frequency: (C,) int64 labeled pixels. tail: its tail classes and the rule that chose them. images: length
    of the lists ``labeled`` and, where there is one, ``unlabeled``. presence: (labeled images, C) bool, which shows
    which class; None in a run that is only read. subclasses: (C,) int64, into how many each class is divided; None in a
    run without them.
    """

    classes: Classes
    class_frequency: np.ndarray
    tail: TailClasses
    images: dict[str, int]
    presence: np.ndarray | None = None
    subclasses: np.ndarray | None = None

    def data(self, config: Config) -> DataFacts:
        """What the method of the run is told."""
        return DataFacts(
            self.classes.names,
            torch.from_numpy(self.class_frequency),
            self.images["labeled"],
            self.images.get("unlabeled", 0),
            config.train.labeled_batch,
            config.train.unlabeled_batch,
            None if self.presence is None else torch.from_numpy(self.presence).T.contiguous(),
            None if self.subclasses is None else torch.from_numpy(self.subclasses),
        )


def facts_of(splits: DataSplits) -> RunFacts:
    """The facts of the data a run is about to use."""
    tail = tail_classes(splits.classes.names, splits.class_frequency, splits.classes.tail)
    images = {name: len(lines) for name, lines in splits.lists.items()}
    subclasses = None if splits.subclasses is None else splits.subclasses.counts
    return RunFacts(splits.classes, splits.class_frequency, tail, images, splits.class_presence, subclasses)


def claim(folder: Path, config: Config, lists: dict[str, list[str]]) -> None:
    """Checks that ``folder`` is new, empty, or a run of this configuration and these lists; writes nothing.

    Raises:
        InputError: it holds something else, naming the difference.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, not a run folder; choose another --output")
    stored = folder / "config.yaml"
    if not stored.exists():
        # what a start that was cut off has left is ours: the config is written last
        ours = {".lock", "lists", "classes.json", "environment.json"}
        if folder.exists() and any(path.name not in ours and path.suffix != ".tmp" for path in folder.iterdir()):
            raise InputError(f"{folder}: holds files but no run; choose another --output or empty it")
        return
    changes = difference(load_config(str(stored), []), config)
    if changes:
        more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
        raise InputError(
            f"{folder}: holds a run of another configuration: {'; '.join(changes[:3])}{more}; choose another --output"
        )
    for name, lines in lists.items():
        path = folder / "lists" / f"{name}.txt"
        if not path.exists() or path.read_text(encoding="utf-8").splitlines() != lines:
            raise InputError(
                f"{folder}: the {name} list has changed since this run began (it had {path.name} in {path.parent}); "
                "restore it, or choose another --output"
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against a second process that would write into it.

    Raises:
        InputError: it cannot be written, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 - open as long as the lock is held
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder}: another process is at work here; wait for it, or choose another --output"
            ) from None
        for leftover in folder.glob("checkpoints/.*.tmp"):  # of a save that was killed
            leftover.unlink()
        yield


def write_start(folder: Path, config: Config, splits: DataSplits, facts: RunFacts, environment: dict[str, Any]) -> None:
    """Config, classes, lists and environment; the config last, since it marks the folder as a run."""
    classes = facts.classes
    described = {
        "names": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "ignore_index": classes.ignore_index,
        "tail": list(facts.tail.names),
        "tail_rule": facts.tail.rule,
        "class_frequency": facts.class_frequency.tolist(),
        **({} if facts.subclasses is None else {"subclass_counts": facts.subclasses.tolist()}),
    }
    for name, lines in splits.lists.items():
        write_text(folder / "lists" / f"{name}.txt", "".join(line + "\n" for line in lines))
    write_json(folder / "classes.json", described)
    write_json(folder / "environment.json", environment)
    write_text(folder / "config.yaml", dump(config))


def read_run(folder: Path) -> tuple[Config, RunFacts]:
    """Configuration and facts of a run folder.

    Raises:
        InputError: it is none.
    """
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: is no run folder (it has no config.yaml); give the --output of evenseg train")
    config = load_config(str(folder / "config.yaml"), [])
    try:
        stored = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
        colors = tuple((int(r), int(g), int(b)) for r, g, b in stored["colors"])
        tail = TailClasses(tuple(stored["tail"]), stored["tail_rule"])
        classes = Classes(tuple(stored["names"]), colors, stored["ignore_index"], tail.names)
        lists = {path.stem: path.read_text(encoding="utf-8") for path in (folder / "lists").glob("*.txt")}
        images = {"labeled": 0, **{name: len(text.splitlines()) for name, text in lists.items()}}
        frequency = np.array(stored["class_frequency"], dtype=np.int64)
        counts = stored.get("subclass_counts")
        subclasses = None if counts is None else np.array(counts, dtype=np.int64)
        return config, RunFacts(classes, frequency, tail, images, subclasses=subclasses)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'classes.json'}: missing or damaged; run the training command again") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file, written atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + os.linesep)
