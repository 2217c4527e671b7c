"""Using a trained run: score it, predict with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from evenseg.config import Config
from evenseg.data.build import build_scored
from evenseg.data.image_io import IMAGE_SUFFIXES
from evenseg.data.video_io import VIDEO_SUFFIXES
from evenseg.errors import InputError
from evenseg.inference.images import Failure, predict_images
from evenseg.inference.inputs import Source, expand_inputs
from evenseg.inference.job import Job
from evenseg.inference.video import outputs_of, predict_video, refuse_existing_videos
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
    method = build_method(config, facts.data(config), weights=None)
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


class Predicted(NamedTuple):
    """What ``predict_run`` did: images and frames predicted in so many seconds, and what could not be read."""

    images: int
    seconds: float
    failures: list[Failure]


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
) -> Predicted:
    """Predicts images and videos with one network of a run; needs none of the run's data.

    Args:
        folder: the run folder.
        inputs: files, folders and glob patterns.
        output: folder to write to.
        which, network, configure: as in ``evaluate_run``.
        overlay, prob: which to write besides the labels.
        overwrite: whether existing files may be replaced.
        progress: called with (images and frames done, all that are known of).
    """
    stored, facts = read_run(folder)
    config = configure(stored)
    sources = expand_inputs(inputs, exclude=output, suffixes=IMAGE_SUFFIXES + VIDEO_SUFFIXES)
    videos = [source for source in sources if source.path.suffix.lower() in VIDEO_SUFFIXES]
    images = [source for source in sources if source not in videos]
    _refuse_shared_folders(videos, images)
    if not overwrite:
        refuse_existing_videos([outputs_of(output, video.name, overlay=overlay, prob=prob) for video in videos])
    _, predictor = predictor_of(load_method(folder, config, facts, which), network)
    fabric = make_fabric(config.train)
    predictor.to(fabric.device)
    resize = config.data.resize if config.data.dataset == "folder" else None
    job = Job(
        predictor,
        output,
        facts.classes,
        protocol_of(config),
        resize=resize,
        overlay=overlay,
        prob=prob,
        device=fabric.device,
        autocast=fabric.autocast,
    )
    start = time.perf_counter()
    failures: list[Failure] = []
    done = 0
    if images:
        failures = predict_images(job, images, overwrite=overwrite, progress=progress)
        done = len(images) - len(failures)
    for video in videos:
        frames, failure = predict_video(job, video, progress=progress)
        done += frames
        failures += [failure] if failure is not None else []
    return Predicted(done, time.perf_counter() - start, failures)


def _refuse_shared_folders(videos: Sequence[Source], images: Sequence[Source]) -> None:
    """The frames of ``clip.mp4`` go where the images of a folder ``clip`` would go."""
    for video in videos:
        if any(image.name.startswith(f"{video.name}/") for image in images):
            raise InputError(
                f"{video.path}: its frames and the images in the folder {video.name} beside it would be written to "
                "the same place; predict them one after the other, with an --output each"
            )
