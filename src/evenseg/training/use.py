"""Using a trained run: score it, predict with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from evenseg.config import Config
from evenseg.data.build import build_scored
from evenseg.errors import InputError
from evenseg.inference.images import Failure, predict_images
from evenseg.inference.inputs import expand_inputs
from evenseg.methods.base import Method
from evenseg.training import checkpoint
from evenseg.training.build import build_method, protocol_of
from evenseg.training.fabric import make_fabric
from evenseg.training.folder import RunFacts, read_run
from evenseg.training.validate import Scores, score

Which = Literal["last", "best"]


def load_method(folder: Path, config: Config, facts: RunFacts, which: Which) -> Method:
    """The method of a run with the weights of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        InputError: no such checkpoint, or one that does not fit the run's configuration.
    """
    method = build_method(config, facts.class_frequency, weights=None)
    path = folder / "checkpoints" / f"{which}.ckpt"
    try:
        method.load_state_dict(checkpoint.load(path)["method"])
    except (RuntimeError, KeyError):
        raise InputError(f"{path}: does not fit the configuration of its run; train again") from None
    return method.eval()


def predictor_of(method: Method, network: str | None) -> tuple[str, nn.Module]:
    """The named network of a method (default: its headline) and its name.

    Raises:
        InputError: the method has no such network.
    """
    roles = method.predictors()
    name = network or list(roles)[-1]
    if name not in roles:
        raise InputError(f"--network: this run has no {name}; it has {' and '.join(roles)}")
    return name, roles[name]


def evaluate_run(
    folder: Path,
    *,
    split: Literal["val", "test"] | None = None,
    which: Which = "last",
    network: str | None = None,
    configure: Callable[[Config], Config] = lambda config: config,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores one network of a run.

    Args:
        folder: the run folder.
        split: ``val`` or ``test``; default: test where the run has one.
        which: ``last`` or ``best`` checkpoint.
        network: ``student`` or ``teacher``; default: the headline.
        configure: changes the run's configuration (its protocol, where its data lie).
        progress: called with (images done, images).

    Returns:
        The figures, with what was scored and how.
    """
    stored, facts = read_run(folder)
    config = configure(stored)
    method = load_method(folder, config, facts, which)
    name, predictor = predictor_of(method, network)
    split = split or ("test" if config.data.test or config.data.dataset != "folder" else "val")
    dataset = build_scored(config.data, split, seed=config.seed)
    protocol = protocol_of(config)
    fabric = make_fabric(config.train)
    predictor.to(fabric.device)
    scores: Scores = score(predictor, dataset, facts.tail.names, protocol, fabric, progress=progress)
    return {
        **scores,
        "run": folder.name,
        "network": f"{which}_{name}",
        "split": split,
        "images": len(dataset),
        "protocol": protocol.label,
        "tail_classes": list(facts.tail.names),
        "tail_rule": facts.tail.rule,
    }


def predict_run(
    folder: Path,
    images: Sequence[str],
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
    """Predicts image files with one network of a run; needs none of the run's data.

    Args:
        folder: the run folder.
        images: files, folders and glob patterns.
        output: folder to write to.
        which, network, configure, progress: as in ``evaluate_run``.
        overlay, prob, overwrite: as in ``inference.images.predict_images``.

    Returns:
        The images that could not be read; all others are predicted.
    """
    stored, facts = read_run(folder)
    config = configure(stored)
    sources = expand_inputs(images, exclude=output)
    _, predictor = predictor_of(load_method(folder, config, facts, which), network)
    fabric = make_fabric(config.train)
    return predict_images(
        predictor.to(fabric.device),
        sources,
        output,
        facts.classes,
        protocol_of(config),
        resize=config.data.resize if config.data.dataset == "folder" else None,
        overlay=overlay,
        prob=prob,
        overwrite=overwrite,
        device=fabric.device,
        autocast=fabric.autocast,
        progress=progress,
    )
