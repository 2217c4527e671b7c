"""``evenseg export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evenseg.cli.evaluate import CheckpointOption, NetworkOption, RunArgument

Format = Literal["onnx", "torch-export", "safetensors"]


def export(
    run: RunArgument,
    format: Annotated[Format, typer.Option("--format", "-f", help="onnx needs pip install 'evenseg[onnx]'.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the model.")],
    checkpoint: CheckpointOption = "last",
    network: NetworkOption = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="IMAGE", help="Image, folder or glob to check on; may be given several times."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Take a trained network away: images in, logits out, with its classes and preprocessing in model.json.

    \b
    evenseg export runs/first --format onnx --output model
    evenseg export runs/first --format torch-export --checkpoint best --network student --output model
    evenseg export runs/first --format safetensors --check photos/ --output model --overwrite

    What was written is run on the images of --check, else on the run's val or test images, else on synthetic
    scenes; unless at least 99.9 % of the labels are those of the trained network, nothing is kept.
    """
    from evenseg.export import export_run

    exported = export_run(
        run, format, output, which=checkpoint, network=network, check_on=check or [], overwrite=overwrite
    )
    for path in exported.files:
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    pixels, lowest, batches = exported.agreement
    sizes = ", ".join(f"{count}x{height}x{width}" for count, height, width in batches)
    print(f"checked on {exported.images}: {pixels} pixels in batches of {sizes}")
    print(f"labels as the trained network gives them: {100 * lowest:.3f} % in the worst batch")
