"""Pseudo-labels from probabilities that any other program has written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evenseg.data.classes import load_classes
from evenseg.errors import InputError
from evenseg.inference.inputs import expand_inputs
from evenseg.stages.pseudo_label import manifest
from evenseg.stages.pseudo_label.alignment import align
from evenseg.stages.pseudo_label.images import Images, with_truth
from evenseg.stages.pseudo_label.label import Labeling, Progress, Selected
from evenseg.stages.pseudo_label.predict import stored_logits
from evenseg.stages.pseudo_label.run import Options, explicit_prior
from evenseg.training.folder import locked


def pseudo_label_files(
    inputs: Sequence[str],
    classes_file: Path,
    output: Path,
    *,
    options: Options,
    progress: Progress | None = None,
) -> Selected:
    """Labels (C, H, W) probabilities in npz files (key ``prob``), as ``evenseg predict --probabilities`` writes them.

    Args:
        inputs: files, folders and glob patterns.
        classes_file: a ``classes.json``; its ``class_frequency``, where it has one, is the labeled distribution.
        output: as in ``pseudo_label_run``.
        options: without calibration; ``distribution`` is given by class name, or in ``classes_file``.
        progress: as in ``pseudo_label_run``.

    Raises:
        InputError: see the message.
    """
    classes = load_classes(classes_file)
    if options.calibration != "none" or options.distribution == "estimated":
        raise InputError(
            "--probabilities: there is no network here to calibrate or to estimate with; give a RUN for that"
        )
    if options.regularized:
        raise InputError("--regularized: there is no network here with a branch; give a RUN for that")
    if isinstance(options.distribution, dict):
        prior = explicit_prior(options.distribution, classes)
    else:
        prior = torch.tensor(_frequency(classes_file, len(classes.names)))
    sources = sorted(expand_inputs(inputs, exclude=output, suffixes=(".npz",)), key=lambda source: source.name)
    names, files = tuple(source.name for source in sources), [source.path for source in sources]
    images = Images(names, tuple(map(str, files)))
    if options.truth is not None:
        images = with_truth(images, options.truth, classes, None)
    with locked(output):
        asked = {
            "classes": list(classes.names),
            "images": len(names),
            "images_sha256": manifest.names_sha256(names, images.lines),
            "files_sha256": _state(files),
            "alignment": options.alignment_with(prior),
        }
        manifest.claim(output / "manifest.json", asked, "choose another --output", write=True)
        labeling = Labeling(output, images, classes, progress=progress)
        logits, calibrate = stored_logits(files, classes.num_classes), None
        if options.alignment is not None:
            calibrate = align(labeling, logits, None, prior, power=options.alignment)
        histogram = labeling.predict(logits, calibrate)
        return labeling.select(histogram, options.rule, prior, name=options.folder, seed=options.seed)


def _frequency(classes_file: Path, num_classes: int) -> list[Any]:
    frequency = manifest.read(classes_file).get("class_frequency")
    if (
        not isinstance(frequency, list)
        or len(frequency) != num_classes
        or not all(isinstance(count, (int, float)) and count >= 0 for count in frequency)
        or not any(frequency)
    ):
        raise InputError(
            f"{classes_file}: has no class_frequency, labeled pixels of each class; add it (a run's classes.json has "
            "it), or give --distribution"
        )
    return frequency


def _state(files: Sequence[Path]) -> str:
    """Fingerprint of sizes and times of change: other probabilities under the same names are noticed."""
    states = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(np.array(states, dtype=np.int64).tobytes()).hexdigest()
