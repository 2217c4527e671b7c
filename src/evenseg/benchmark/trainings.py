"""What a run of a plan trains: once, or a round after the other, and how far it has come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from evenseg.config import Config
from evenseg.recipes.base import TrainStage
from evenseg.recipes.run import stages_of


class Training(NamedTuple):
    """What trains once: a run, or a round of a recipe. begin: the step it begins at. folder: below that of the run."""

    config: Config
    begin: int
    folder: str

    @property
    def steps(self) -> int:
        """How many it takes."""
        return self.config.train.steps - self.begin

    def done(self, run: Path) -> int:
        """Steps that the log in the folder of its run tells of."""
        return max(last_step(run / self.folder) - self.begin, 0)


def trainings(config: Config) -> list[Training]:
    """In their order."""
    if config.recipe is None:
        return [Training(config, 0, "")]
    found: dict[str, Training] = {}
    for stage in stages_of(config):
        if not isinstance(stage, TrainStage):
            continue
        before = found.get(stage.after or "")
        begin = before.config.train.steps if before is not None and stage.start == "continued" else 0
        of_stage = stage.config
        if stage.labels is not None:  # its steps have pseudo-labeled images, wherever they are going to be listed
            data = of_stage.data.model_copy(update={"pseudo_labeled": stage.labels})
            of_stage = of_stage.model_copy(update={"data": data})
        found[stage.name] = Training(of_stage, begin, f"stages/{stage.name}")
    return list(found.values())


def last_step(folder: Path) -> int:
    """The last step in the log of a run, 0 before the first."""
    try:
        with open(folder / "metrics.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 100_000))
            lines = [line for line in file.read().split(b"\n") if line.startswith(b"{") and line.endswith(b"}")]
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError, KeyError):
        return 0
