"""Predict image files with a trained run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evenseg.config import Config
from evenseg.inference.images import Failure, predict_images
from evenseg.inference.inputs import expand_inputs
from evenseg.training.build import protocol_of
from evenseg.training.fabric import make_fabric
from evenseg.training.folder import read_run
from evenseg.training.use import Which, load_method, predictor_of


def predict_run(
    folder: Path,
    inputs: Sequence[str],
    output: Path,
    *,
    which: Which = "last",
    network: str | None = None,
    configure: Callable[[Config], Config] = lambda config: config,
    overlay: bool = True,
    prob: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Failure]:
    """Writes label maps of images at their own resolution, see ``predict_images``.

    Args:
        folder: the run folder.
        inputs: images, folders, patterns.
        output: folder to write to.
        which: ``last`` or ``best`` checkpoint.
        network: ``student`` or ``teacher``; default: the headline.
        configure: changes the run's configuration (its protocol).
        overlay, prob, overwrite: what to write, and whether over existing files.
        progress: called with (images done, images).

    Returns:
        The images that could not be read; all others are written.

    Raises:
        InputError: no run, no such checkpoint or network, no images, existing files.
    """
    stored, facts = read_run(folder)
    config = configure(stored)
    protocol = protocol_of(config)
    sources = expand_inputs(inputs, exclude=output)
    _, predictor = predictor_of(load_method(folder, config, facts, which), network)
    fabric = make_fabric(config.train)
    return predict_images(
        predictor.to(fabric.device),
        sources,
        output,
        facts.classes,
        protocol,
        resize=config.data.resize,
        overlay=overlay,
        prob=prob,
        overwrite=overwrite,
        device=fabric.device,
        autocast=fabric.autocast,
        progress=progress,
    )
