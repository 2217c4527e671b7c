"""What has been begun and finished of a recipe: a file for each stage, with its settings and fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evenseg.errors import InputError
from evenseg.recipes.base import Stage
from evenseg.schema import show
from evenseg.training.folder import write_json


class Ledger:
    """The stages in a folder ``RUN/stages``.

    ``NAME.json`` beside the folder of a stage has its ``settings``, ``inputs``, the fingerprints of the stages that it
    was made from, and, once it is finished, ``artifact``, the fingerprint of what it made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def artifact(self, stage: Stage) -> Path:
        """The file that others go on from: a checkpoint, a list of pseudo-labels, or what describes subclass maps."""
        return self.folder / stage.name / stage.artifact

    def check(self, stages: Sequence[Stage]) -> None:
        """Raises InputError where a stage that has begun had other settings, with its name and the key."""
        for stage in stages:
            if (stored := self._read(stage.name)) is None:
                continue
            ours, theirs = _plain(stage.settings), stored["settings"]
            for key in {**ours, **theirs}:
                if ours.get(key) != theirs.get(key):
                    raise InputError(
                        f"{self.folder / stage.name}: the stage {stage.name} began with {key}: "
                        f"{show(theirs.get(key))}, not {show(ours.get(key))}; {self._remedy(stage)}"
                    )

    def finished(self, stage: Stage) -> bool:
        """Whether a stage is there, made from what its inputs are now.

        Raises:
            InputError: it was begun from something else.
        """
        stored = self._read(stage.name)
        if stored is None:
            return False
        if stored["inputs"] != self._inputs(stage):
            raise InputError(
                f"{self.folder / stage.name}: the stage {stage.name} began from another outcome of "
                f"{' and '.join(stage.inputs)}; {self._remedy(stage)}"
            )
        return stored["artifact"] is not None and self.artifact(stage).is_file()

    def begin(self, stage: Stage) -> None:
        """Notes what a stage is made with."""
        self._write(stage, None)

    def finish(self, stage: Stage) -> None:
        """Notes that a stage is done."""
        # of labels and maps the file alone tells little: it names them
        made_of = json.dumps([_plain(stage.settings), self._inputs(stage)], sort_keys=True)
        self._write(stage, hashlib.sha256(made_of.encode() + self.artifact(stage).read_bytes()).hexdigest())

    def _write(self, stage: Stage, artifact: str | None) -> None:
        content = {"settings": _plain(stage.settings), "inputs": self._inputs(stage), "artifact": artifact}
        write_json(self.folder / f"{stage.name}.json", content)

    def _inputs(self, stage: Stage) -> dict[str, str | None]:
        stored = {name: self._read(name) for name in stage.inputs}
        return {name: None if each is None else each["artifact"] for name, each in stored.items()}

    def _read(self, name: str) -> dict[str, Any] | None:
        """What is known of a stage; None while it has no folder, whose settings may still change."""
        path = self.folder / f"{name}.json"
        if not path.exists() or not (self.folder / name).is_dir():
            return None
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return {key: stored[key] for key in ("settings", "inputs", "artifact")}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path}: damaged; remove the folder {name} beside it") from None

    def _remedy(self, stage: Stage) -> str:
        return f"choose another --output, or remove the folder {stage.name} and those of all later stages there"


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain
