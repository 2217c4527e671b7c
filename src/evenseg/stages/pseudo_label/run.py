"""Pseudo-labels by a trained run, of its own unlabeled images or of any others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from evenseg.config import Config
from evenseg.data.build import build_data
from evenseg.data.classes import Classes
from evenseg.data.dataset import DataSplits
from evenseg.errors import InputError
from evenseg.functional.calibration import from_state
from evenseg.functional.distributed import gather_over_ranks
from evenseg.functional.label_shift import class_shares_under_shift
from evenseg.inference.inputs import expand_inputs
from evenseg.metrics.distribution import total_variation
from evenseg.stages.pseudo_label import manifest
from evenseg.stages.pseudo_label.alignment import align
from evenseg.stages.pseudo_label.encode import Calibrate
from evenseg.stages.pseudo_label.held_out import (
    CalibrationName,
    HeldOut,
    fit_calibration,
    held_out_confusion,
    held_out_images,
)
from evenseg.stages.pseudo_label.images import Images, dataset_images, file_images, with_truth
from evenseg.stages.pseudo_label.label import Labeling, Progress, Ranks, Selected
from evenseg.stages.pseudo_label.predict import Average, Logits, network_logits
from evenseg.stages.pseudo_label.regularized import regularized_predictor
from evenseg.stages.pseudo_label.rules import Rule
from evenseg.training.build import protocol_of
from evenseg.training.fabric import ends_with_others, make_fabric, precision
from evenseg.training.folder import RunFacts, locked, read_run
from evenseg.training.use import Which, load_method, predictor_of

DIFFERENT = 0.05  # total variation between labeled and estimated shares from which on a warning is due

Distribution = Literal["labeled", "estimated"]


class Options(NamedTuple):
    """How images are labeled.

    rule: which predictions are kept. seed: of what is drawn. name: of the folder of the labels; None: RULE-RATIO.
    average: what windows, scales and mirror images are averaged as. calibration: fitted to held-out labeled pixels.
    distribution: what the pseudo-labels are to be distributed like: the labeled pixels, an estimate for the unlabeled
    images (black-box shift estimation, from held-out labeled images), or shares by class name. alignment: of the
    predictions with that distribution before labels are read off them, to this power (CReST+); None: they stay as they
    are. truth: folder of label maps to judge the pseudo-labels by. portable: the list names labels relative to itself.
    regularized: read labels off class probabilities that USRN's branch has had its say in; None: where there is one.
    """

    rule: Rule = Rule()
    seed: int = 0
    name: str | None = None
    average: Average = "logits"
    calibration: CalibrationName = "none"
    distribution: Distribution | dict[str, float] = "labeled"
    alignment: float | None = None
    truth: Path | None = None
    portable: bool = False
    regularized: bool | None = False

    @property
    def folder(self) -> str:
        """Name of the folder of the labels."""
        amount = self.rule.confidence if self.rule.confidence is not None else self.rule.ratio
        return self.name or f"{self.rule.name}-{amount:g}"

    def alignment_with(self, prior: Tensor) -> dict[str, Any] | None:
        """What predictions are aligned with, for a manifest."""
        return None if self.alignment is None else {"power": self.alignment, "prior": prior.tolist()}


@ends_with_others()
def pseudo_label_run(
    run: Path,
    output: Path,
    *,
    inputs: Sequence[str] | None = None,
    options: Options = Options(),  # noqa: B008 - immutable
    which: Which = "last",
    network: str | None = None,
    configure: Callable[[Config], Config] = lambda config: config,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> Selected:
    """Labels images with one network of a run; called again it goes on where it was, or returns what is there.

    Args:
        run: the run folder.
        output: where to: ``predictions`` and a folder for each choice of labels.
        inputs: files, folders and glob patterns, labeled at their own size; None: the run's unlabeled images, at the
            size that they are trained on.
        options: what is kept of the predictions.
        which, network: checkpoint and network, as in ``predict_run``.
        configure: changes the run's configuration (its protocol, where its data lie).
        progress: called with what is being done, images done and images.
        say: called with warnings, by one process.

    Raises:
        InputError: see the message.
    """
    if options.alignment is not None and options.distribution == "estimated":
        raise InputError(
            "alignment: an estimate of the distribution is made from the predictions as they are; align with the "
            "labeled distribution or with shares by name"
        )
    stored, facts = read_run(run)
    config = configure(stored)
    if isinstance(options.distribution, dict):
        explicit_prior(options.distribution, facts.classes)  # a wrong name is told before hours of prediction
    fabric = make_fabric(config.train)
    if not fabric.is_global_zero:
        progress = None
    splits = _splits(run, config, inputs, options)
    images = _images(config, splits, inputs, output)
    if options.truth is not None:
        resize = config.data.resize if inputs is None else None
        images = with_truth(images, options.truth, facts.classes, resize)
    method = load_method(run, config, facts, which)
    role, predictor = predictor_of(method, network)
    if options.regularized is not False:
        regularized = regularized_predictor(method, predictor)
        _check_regularized(run, options, found=regularized is not None)
        options = options._replace(regularized=regularized is not None)
        if regularized is not None:
            predictor, options = regularized, options._replace(average="logits")  # what it gives is averaged as it is
    predictor.to(fabric.device)
    work = _Work(run, config, facts, images, splits, predictor, f"{which}_{role}", fabric, options)
    fabric.barrier()  # all have looked before the first one writes
    with locked(output) if fabric.is_global_zero else nullcontext():
        return work.label(output, progress, say if fabric.is_global_zero else _silent)


class _Work(NamedTuple):
    run: Path
    config: Config
    facts: RunFacts
    images: Images
    splits: DataSplits | None
    predictor: nn.Module
    network: str
    fabric: Fabric
    options: Options

    def label(self, output: Path, progress: Progress | None, say: Callable[[str], None]) -> Selected:
        """Predicts what is missing and chooses from it."""
        first = self.fabric.is_global_zero
        manifest.claim(output / "manifest.json", self._manifest(), "choose another --output", write=first)
        fitted = output / "calibration.json"
        calibrate: Calibrate | None = None
        if self.options.calibration != "none":
            if not fitted.exists():
                held_out = self._held_out("calibration")
                logits = self._logits(held_out.images)
                found = fit_calibration(self.options.calibration, held_out, logits, self._classes)
                content = {
                    "images": held_out.name,
                    "expected_calibration_error": {"before": found.error_before, "after": found.error_after},
                    **found.calibration.state(),
                }
                manifest.claim(fitted, gather_over_ranks(content)[0], "choose another --output", write=first)
                self.fabric.barrier()
            calibrate = from_state(manifest.read(fitted))
        ranks = Ranks(self.fabric.global_rank, self.fabric.world_size, self.fabric.barrier)
        labeling = Labeling(output, self.images, self.facts.classes, ranks, progress)
        logits, options = self._logits(self.images), self.options
        if options.alignment is not None:
            calibrate = align(labeling, logits, calibrate, self._known_prior, power=options.alignment)
        histogram = labeling.predict(logits, calibrate, as_prob=bool(options.regularized))
        prior = self._known_prior if options.distribution != "estimated" else self._estimate(histogram.sum(dim=1), say)
        return labeling.select(
            histogram, options.rule, prior, name=options.folder, seed=options.seed, portable=options.portable
        )

    @property
    def _classes(self) -> int:
        return self.facts.classes.num_classes

    def _manifest(self) -> dict[str, Any]:
        """What the predictions depend on."""
        config, options = self.config, self.options
        return {
            "network": self.network,
            "weights_sha256": manifest.weights_sha256(self.predictor),
            "classes": list(self.facts.classes.names),
            "protocol": protocol_of(config).label,
            "average": options.average,
            "resize": config.data.resize,
            "precision": precision(config.train.precision, self.fabric.device.type),
            "calibration": options.calibration,
            "alignment": options.alignment_with(self._known_prior),
            **({"regularized": True} if options.regularized else {}),
            "images": len(self.images.names),
            "images_sha256": manifest.names_sha256(self.images.names, self.images.lines),
        }

    def _logits(self, images: Images) -> Logits:
        return network_logits(
            self.predictor,
            images,
            protocol_of(self.config),
            average=self.options.average,
            device=self.fabric.device,
            autocast=self.fabric.autocast,
        )

    def _held_out(self, wanted_for: str) -> HeldOut:
        assert self.splits is not None  # as ``_splits`` sees to
        return held_out_images(self.splits, wanted_for)

    @property
    def _known_prior(self) -> Tensor:
        """(C,) what the pseudo-labels are to be distributed like, where that is not estimated."""
        if isinstance(self.options.distribution, dict):
            return explicit_prior(self.options.distribution, self.facts.classes)
        return torch.from_numpy(self.facts.class_frequency)

    def _estimate(self, predicted: Tensor, say: Callable[[str], None]) -> Tensor:
        """(C,) class shares that explain the predictions of the unlabeled images."""
        labeled = torch.from_numpy(self.facts.class_frequency)
        held_out = self._held_out("distribution")
        confusion = held_out_confusion(held_out, self._logits(held_out.images), self._classes)
        try:
            shares = gather_over_ranks(class_shares_under_shift(confusion, predicted, labeled))[0]
        except ValueError as error:
            raise InputError(f"distribution: {error}; give shares by name, or take the labeled ones") from None
        if (apart := float(total_variation(labeled, shares))) >= DIFFERENT:
            say(
                f"warning: the classes of the unlabeled images seem to be distributed otherwise than those of the "
                f"labeled ones: {apart:.0%} of the pixels would have to change class (estimated from {held_out.name})"
            )
        return shares


def _splits(run: Path, config: Config, inputs: Sequence[str] | None, options: Options) -> DataSplits | None:
    """The data of the run, where they are needed at all."""
    held_out = options.calibration != "none" or options.distribution == "estimated"
    if inputs is not None and not held_out:
        return None
    own = inputs is None
    data = config.data
    if own and data.dataset == "folder" and data.unlabeled is None and data.train is None:
        raise InputError(f"{run}: its configuration names no unlabeled images; give --images, or data.unlabeled=LIST")
    splits = build_data(data, seed=config.seed, needs_unlabeled=own, holdout=config.health.holdout)
    if held_out:
        held_out_images(splits, "calibration" if options.calibration != "none" else "distribution")  # are there any?
    return splits


def _images(config: Config, splits: DataSplits | None, inputs: Sequence[str] | None, output: Path) -> Images:
    if inputs is None:
        assert splits is not None
        assert splits.unlabeled is not None
        return dataset_images(splits.unlabeled)
    resize = config.data.resize if config.data.dataset == "folder" else None
    return file_images(expand_inputs(inputs, exclude=output), resize)


def explicit_prior(shares: dict[str, float], classes: Classes) -> Tensor:
    """(C,) shares by class name. Raises InputError where they are none of these classes."""
    for name, share in shares.items():
        if name not in classes.names:
            raise InputError(f"distribution: there is no class {name!r}; the classes are {', '.join(classes.names)}")
        if not 0 <= share < float("inf"):
            raise InputError(f"distribution: {name} has the share {share}; give numbers from 0 on")
    found = torch.tensor([float(shares.get(name, 0.0)) for name in classes.names], dtype=torch.float64)
    if not bool(found.any()):
        raise InputError("distribution: no class has a share; give at least one")
    return found


def _check_regularized(run: Path, options: Options, *, found: bool) -> None:
    if options.regularized and not found:
        raise InputError(
            f"{run}: was trained without USRN's branch, or without its regularization, by which its labels could be "
            "regularized; leave that out"
        )
    if found and (options.calibration != "none" or options.alignment is not None):
        raise InputError(
            "regularized: such probabilities do not sum to 1, and are neither calibrated nor aligned; leave that out, "
            "or set regularized to false"
        )


def _silent(text: str) -> None:
    pass
