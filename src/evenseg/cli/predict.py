"""``evenseg predict``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from evenseg.cli.evaluate import CheckpointOption, NetworkOption, RunArgument, refuse_other_keys
from evenseg.config import override_config
from evenseg.errors import InputError

_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")


def predict(
    run: RunArgument,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Images, folders, globs; and evaluate.* keys.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the predictions.")],
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Also write the image with the classes over it.")
    ] = True,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of every class as npz.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing predictions.")] = False,
    checkpoint: CheckpointOption = "last",
    network: NetworkOption = None,
) -> int:
    """Label images: a palette PNG each, a colour overlay, and class probabilities on request.

    \b
    evenseg predict runs/first street.jpg --output predictions
    evenseg predict runs/first photos/ 'more/*.png' --output predictions --no-overlay
    evenseg predict runs/first photos/ --output predictions --probabilities --overwrite
    evenseg predict runs/first photos/ evaluate.mode=sliding evaluate.flip=true --output predictions

    Exit code 1 if some images could not be read; the others are written.
    """
    overrides = [text for text in inputs if _OVERRIDE.match(text) and not Path(text).exists()]
    images = [text for text in inputs if text not in overrides]
    refuse_other_keys(overrides)
    if not images:
        raise InputError("no images to predict; name images, folders or globs before the key=value pairs")
    from evenseg.cli.progress import progress_bar
    from evenseg.training.use import predict_run

    with progress_bar("predict") as progress:
        failures = predict_run(
            run,
            images,
            output,
            which=checkpoint,
            network=network,
            configure=lambda config: override_config(config, overrides),
            overlay=overlay,
            prob=probabilities,
            overwrite=overwrite,
            progress=progress,
        )
    if failures:
        messages = "; ".join(failure.message for failure in failures)
        count = f"{len(failures)} image{'s' if len(failures) > 1 else ''}"
        print(f"evenseg: error: {count} not predicted: {messages}", file=sys.stderr)
    return 1 if failures else 0
