"""``evenseg predict``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evenseg.cli.evaluate import CheckpointOption, NetworkOption, RunArgument, refuse_other_keys
from evenseg.config import override_config
from evenseg.errors import InputError

if TYPE_CHECKING:
    from evenseg.inference.images import Failure

_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")


def predict(
    run: RunArgument,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Images, videos, folders, globs; and evaluate.* keys.")
    ],
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
    """Label images and videos: a palette PNG for each image or frame, a colour overlay, and probabilities on request.

    \b
    evenseg predict runs/first street.jpg --output predictions
    evenseg predict runs/first clip.mp4 --output predictions
    evenseg predict runs/first photos/ 'more/*.png' --output predictions --no-overlay
    evenseg predict runs/first photos/ --output predictions --probabilities --overwrite
    evenseg predict runs/first photos/ evaluate.mode=sliding evaluate.flip=true --output predictions

    Exit code 1 if some files could not be read; the others are written.
    """
    overrides = [text for text in inputs if _OVERRIDE.match(text) and not Path(text).exists()]
    images = [text for text in inputs if text not in overrides]
    refuse_other_keys(overrides)
    if not images:
        raise InputError("no images to predict; name images, videos, folders or globs before the key=value pairs")
    from evenseg.cli.progress import progress_bar
    from evenseg.training.use import predict_run

    with progress_bar("predict") as progress:
        predicted = predict_run(
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
    rate = predicted.images / max(predicted.seconds, 1e-9)
    print(f"predicted {predicted.images} images in {predicted.seconds:.1f} s, {rate:.1f} images per second")
    if predicted.failures:
        messages = "; ".join(failure.message for failure in predicted.failures)
        print(f"evenseg: error: {_count(predicted.failures)}: {messages}", file=sys.stderr)
    return 1 if predicted.failures else 0


def _count(failures: list[Failure]) -> str:
    from evenseg.data.video_io import VIDEO_SUFFIXES

    plural = "s" if len(failures) > 1 else ""
    if any(failure.path.suffix.lower() in VIDEO_SUFFIXES for failure in failures):
        return f"{len(failures)} file{plural} not predicted in full"
    return f"{len(failures)} image{plural} not predicted"
