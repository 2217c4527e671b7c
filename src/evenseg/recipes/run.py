"""Training a run folder by a recipe: its stages in order, those that are finished left alone."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from evenseg import registry
from evenseg.config import Config, dump, load_config
from evenseg.data.build import build_data
from evenseg.errors import InputError
from evenseg.recipes.base import Recipe, Stage, TrainStage
from evenseg.recipes.ledger import Ledger
from evenseg.training.build import method_class
from evenseg.training.checkpoint import write_text
from evenseg.training.display import check_progress
from evenseg.training.fabric import ends_with_others, make_fabric
from evenseg.training.folder import locked, write_json
from evenseg.training.run import summary

_OWN = frozenset({"config.yaml", ".lock", "result.json"})  # of a stage, which the whole run has of its own


def stages_of(config: Config) -> list[Stage]:
    """The stages of a configuration with a recipe.

    Raises:
        InputError: unknown names or arguments, of the recipe, a stage or its method.
    """
    recipe: Recipe = registry.build("recipe", config.recipe)
    stages = recipe.stages(config)
    for stage in stages:
        if isinstance(stage, TrainStage):
            method_class(stage.config)
    return stages


@ends_with_others()
def run_recipe(config: Config, output: Path) -> int:
    """Trains ``output`` stage by stage, or goes on in the stage where it was, or reports what is there.

    Each stage has a folder ``output/stages/NAME``; what the last one has made is then also in ``output``.

    Args:
        config: the resolved configuration, with a recipe.
        output: the run folder.

    Returns:
        As ``training.run.train``.

    Raises:
        InputError: see the message.
    """
    stages = stages_of(config)
    fabric = make_fabric(config.train)
    ledger = Ledger(output / "stages")
    _claim(output)
    ledger.check(stages)
    if not ledger.finished(stages[0]):  # with wrong unlabeled images, better no round at all than one
        progress = check_progress(fabric.is_global_zero)
        holdout = config.health.holdout
        splits = build_data(config.data, seed=config.seed, progress=progress, needs_unlabeled=True, holdout=holdout)
        for stage in stages:
            stage.refuse(splits)
    fabric.barrier()  # all have looked before the first one writes
    with locked(output) if fabric.is_global_zero else nullcontext():
        return _run(config, output, stages, ledger, fabric)


def _run(config: Config, output: Path, stages: list[Stage], ledger: Ledger, fabric: Fabric) -> int:
    first, last = fabric.is_global_zero, stages[-1]
    before = (output / "result.json").is_file() and all(map(ledger.finished, stages))
    fabric.barrier()
    if before:
        if first:
            result = json.loads((output / "result.json").read_text(encoding="utf-8"))
            print(f"{output}: finished before; {summary(result)}", flush=True)
        return 0
    if first:
        write_text(output / "config.yaml", dump(config))
    for number, stage in enumerate(stages, start=1):
        done = ledger.finished(stage)
        fabric.barrier()  # all have read before the first one writes
        if first:
            print(f"stage {number}/{len(stages)}  {stage.name}{': finished before' if done else ''}", flush=True)
        if done:
            continue
        if first:
            ledger.begin(stage)
        if code := stage.make(ledger.folder, first=first):
            return code
        if first:
            ledger.finish(stage)
        fabric.barrier()
    if first:
        _publish(output / "stages" / last.name, output, str(config.recipe_name))
    return 0


def _claim(output: Path) -> None:
    """Raises InputError where the folder holds something else than a run by a recipe."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, not a run folder; choose another --output")
    if (output / "config.yaml").is_file():
        if load_config(str(output / "config.yaml"), []).recipe is None:
            raise InputError(
                f"{output}: holds a run of another configuration: recipe: null there; choose another --output"
            )
        return
    if output.exists() and any(path.name != ".lock" and path.suffix != ".tmp" for path in output.iterdir()):
        raise InputError(f"{output}: holds files but no run; choose another --output or empty it")


def _publish(stage: Path, output: Path, recipe: str) -> None:
    """Makes the last run's outcome that of the whole, its result last of all."""
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        relative = path.relative_to(stage)
        if relative.parts[0] not in _OWN and path.suffix != ".tmp":
            _link(path, output / relative)
    result: dict[str, Any] = json.loads((stage / "result.json").read_text(encoding="utf-8"))
    write_json(output / "result.json", {**result, "recipe": recipe})
    print(f"{output}: {summary(result)}", flush=True)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none, in one piece."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copy2(source, temporary)
    os.replace(temporary, target)
