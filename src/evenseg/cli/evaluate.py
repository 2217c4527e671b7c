"""``evenseg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evenseg.config import Config, override_config
from evenseg.errors import InputError

# What may differ from the run, beside the protocol: where the images lie and how they are read.
_FREE = frozenset(
    [
        *(f"data.{key}" for key in ("root", "classes", "val", "test", "labels", "workers", "cache")),
        "train.accelerator",
        "train.precision",
    ]
)

Split = Literal["val", "test"]
Which = Literal["last", "best"]
Network = Literal["teacher", "student", "second"]

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder made by `evenseg train`.")]
CheckpointOption = Annotated[Which, typer.Option("--checkpoint", help="The last one, or the best on val.")]
NetworkOption = Annotated[
    Network | None, typer.Option("--network", help="Default: the teacher where the method has one.")
]


def evaluate(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="evaluate.* keys, and where data lie: data.root, .val, .test ..."),
    ] = None,
    split: Annotated[Split | None, typer.Option("--split", help="Default: test where there is one.")] = None,
    checkpoint: CheckpointOption = "last",
    network: NetworkOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Write all figures here.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
) -> None:
    """Score a run: mIoU, tail and head mIoU, accuracy, and IoU of every class.

    \b
    evenseg evaluate runs/first
    evenseg evaluate runs/first --split val --checkpoint best --network student
    evenseg evaluate runs/first evaluate.scales=[0.75,1.0,1.25] evaluate.flip=true --output scores.json
    evenseg evaluate runs/first evaluate.mode=sliding data.root=/elsewhere
    """
    overrides = overrides or []
    refuse_other_keys(overrides)
    if output is not None:
        refuse_output(output, overwrite)
    from evenseg.cli.progress import progress_bar
    from evenseg.cli.tables import print_scores
    from evenseg.training.folder import write_json
    from evenseg.training.use import evaluate_run

    with progress_bar("evaluate") as progress:
        result = evaluate_run(
            run,
            split=split,
            which=checkpoint,
            network=network,
            configure=lambda config: override_config(config, overrides),
            progress=progress,
        )
    if output is not None:
        write_json(output, result)
    print_scores(result)


def refuse_other_keys(overrides: list[str]) -> None:
    """Raises InputError for unknown keys and values, and for keys that belong to the training of a run."""
    override_config(Config(), overrides)
    for override in overrides:
        key = override.partition("=")[0]
        if not key.startswith("evaluate.") and key not in _FREE:
            raise InputError(
                f"{key} belongs to the trained run and stays as it is; evaluate.*, data.root and "
                "train.accelerator can be set"
            )


def refuse_output(path: Path, overwrite: bool) -> None:
    """Raises InputError where the file exists already or can never be written."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write to")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; add --overwrite to replace it, or choose another --output")
    blocked = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    if blocked:
        raise InputError(f"{path} cannot be written: {blocked} is a file; choose another --output")
