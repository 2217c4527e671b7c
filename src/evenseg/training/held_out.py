"""Pseudo-labels of held-out images, whose labels are not trained on: how right they are, at a validation.

The networks of this moment label weak views of held-out and of unlabeled images as they do in training. What is found
of the former is the measured precision and recall; averaged over the confidences of the latter, the estimated
precision of what is being taught. Both sides are of one moment and nothing is kept between two, so that there is no
state to save, and no drift of the teacher to allow for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from evenseg.config import Config
from evenseg.data.batches import stack
from evenseg.data.dataset import Dataset, DataSplits
from evenseg.data.micro_batches import Source, unlabeled_view
from evenseg.data.samplers import Share, Stream
from evenseg.data.views import weak_spec
from evenseg.functional import random
from evenseg.functional.distributed import sum_over_ranks
from evenseg.inference.ahead import map_ahead
from evenseg.inference.evaluate import to_images
from evenseg.methods.base import Method
from evenseg.metrics.held_out_counts import BINS, HeldOutCounts, held_out_counts
from evenseg.metrics.precision_estimate import estimate_precision
from evenseg.networks.mode import unchanged
from evenseg.training.fabric import seed_step
from evenseg.training.health import digits
from evenseg.types import Step

SHARE = 1 / 400  # of the network passes of training: 3.5 times as many of the images that it reads
FEWEST = 16  # views of a look; the passes of several validations are saved up for it
MOST = 512


class _Views(NamedTuple):
    """A micro-batch on the host: image (B, H, W, 3) uint8, valid and truth (B, H, W) or None; which images, (B,)."""

    image: Tensor
    valid: Tensor
    truth: Tensor | None
    position: Tensor


class HeldOut:
    """Looks at the pseudo-labels of held-out images: ``health.holdout``'s, else those of ``val``.

    Args:
        method: which makes pseudo-labels, if it does.
        splits: the data.
        config: of the run.
        fabric: launched; all ranks look together.
    """

    def __init__(self, method: Method, splits: DataSplits, config: Config, fabric: Fabric) -> None:
        self.method, self.config, self.fabric = method, config, fabric
        self.classes = splits.classes
        self.held_out = splits.val if splits.holdout is None else splits.holdout
        self.unlabeled = splits.unlabeled

    def look(self, done: int) -> dict[str, Any] | None:
        """The record of a validation after ``done`` steps; None if no look is due. Changes no state."""
        if self.held_out is None or self.unlabeled is None:
            return None
        held_out, unlabeled = views_due(done, self.config, self.method.supervised_steps)
        if not (held_out and unlabeled and self.method.views.unlabeled):
            return None
        held = self.counts(self.held_out, "health held-out", held_out, done)
        other = self.counts(self.unlabeled, "health unlabeled", unlabeled, done)
        return {"step": done, "split": "holdout", **holdout_record(held, other, self.classes.names)}

    def counts(self, dataset: Dataset, name: str, views: int, done: int) -> HeldOutCounts:
        """Counts of each image that the first ``views`` draws of a stream show, over all ranks, on the CPU."""
        train, fabric, classes = self.config.train, self.fabric, self.classes.num_classes
        share = Share(train.unlabeled_batch, fabric.global_rank, fabric.world_size, train.micro_batches)
        spec = weak_spec(self.config.data, unlabeled=True)
        source = Source(dataset, Stream(self.config.seed, name, len(dataset)), share, spec)
        sums = torch.zeros(views, classes * (2 * BINS + 1) + 1, dtype=torch.int64, device=fabric.device)
        positions = [(batch, micro) for batch in range(views // share.batch) for micro in range(train.micro_batches)]
        loaded = map_ahead(lambda at: self._load(source, at), positions, threads=max(self.config.data.workers, 1))
        seed_step(self.config.seed, done, fabric.global_rank)
        with unchanged(self.method), torch.no_grad():
            for (batch, micro), each in zip(positions, loaded, strict=True):
                found = self._label(each, self._key(done, batch, share.first_slot(micro)))
                row = [value.flatten(1) for value in (*found, each.position.to(fabric.device).unsqueeze(1))]
                sums[list(share.draws(batch, micro))] = torch.cat(row, dim=1)
        return _by_image(sum_over_ranks(sums).cpu(), classes)

    def _load(self, source: Source, position: tuple[int, int]) -> _Views:
        unreadable: dict[str, None] = {}
        most = self.config.data.max_unreadable
        drawn = [unlabeled_view(source, draw, unreadable, most) for draw in source.share.draws(*position)]
        maps = [view.maps["truth"] for _, view in drawn if "truth" in view.maps]
        return _Views(
            stack([view.image for _, view in drawn]),
            stack([view.valid for _, view in drawn]),
            stack(maps) if len(maps) == len(drawn) else None,
            torch.tensor([index for index, _ in drawn]),
        )

    def _label(self, views: _Views, step: Step) -> HeldOutCounts:
        device = self.fabric.device
        with self.fabric.autocast():
            target = self.method.pseudo_labels(
                to_images(list(views.image.numpy()), device), views.valid.to(device), step
            )
        return held_out_counts(target, None if views.truth is None else views.truth.to(device).long())

    def _key(self, done: int, batch: int, slot: int) -> Step:
        generator = random.generator(self.config.seed, "health", done, batch)
        return Step(done - 1, self.config.train.steps, generator, self.config.seed, unlabeled_slot=slot)


def views_due(done: int, config: Config, supervised_steps: int) -> tuple[int, int]:
    """How many views of held-out and of unlabeled images are looked at after ``done`` steps, whole batches of both.

    ``health.views`` of held-out images, and half as many unlabeled ones; by default together as many as make
    ``SHARE`` of the passes of all steps since the last look: three for a labeled and a strong view, one for a
    weak one. Where that is less than ``FEWEST`` views or three batches, none.
    """
    train, views = config.train, config.health.views
    if done <= supervised_steps or config.health.every == 0:
        return 0, 0
    if views is not None:
        batches = -(-views // train.unlabeled_batch)
        return batches * train.unlabeled_batch, -(-batches // 2) * train.unlabeled_batch
    rate = SHARE * (3 * train.labeled_batch + 4 * train.unlabeled_batch)
    saved, looked = 0.0, supervised_steps
    for point in [*range(train.validate_every, done, train.validate_every), done]:
        saved = rate * (point - looked)
        if saved >= max(FEWEST, 3 * train.unlabeled_batch):
            looked = point
    if looked < done:
        return 0, 0
    batches = int(min(saved, MOST)) // train.unlabeled_batch
    return (batches - batches // 3) * train.unlabeled_batch, batches // 3 * train.unlabeled_batch


def holdout_record(held: HeldOutCounts, unlabeled: HeldOutCounts, names: Sequence[str]) -> dict[str, Any]:
    """What the log says of the counts: measured on held-out images, and estimated for unlabeled ones.

    Returns:
        ``precision`` and ``recall`` of all pixels; ``per_class_`` ``precision``, ``recall``, ``estimate``,
        ``estimate_low``, ``estimate_high``, ``images`` and ``pixels`` by class name. None: too little to tell.
    """
    kept, right, true = (value.sum(dim=0).double() for value in held)
    kept, right = kept.sum(dim=1), right.sum(dim=1)
    estimate = estimate_precision(held.kept, held.right, unlabeled.kept)
    values = {
        "precision": right / kept,
        "recall": right / true,
        "estimate": estimate.value,
        "estimate_low": estimate.low,
        "estimate_high": estimate.high,
    }
    per_class = {name: map(digits, value.tolist()) for name, value in values.items()}
    numbers = {"images": estimate.images.tolist(), "pixels": estimate.pixels.tolist()}
    return {
        "precision": digits(float(right.sum() / kept.sum())),
        "recall": digits(float(right.sum() / true.sum())),
        **{f"per_class_{name}": dict(zip(names, each, strict=True)) for name, each in (per_class | numbers).items()},
    }


def _by_image(sums: Tensor, classes: int) -> HeldOutCounts:
    """Rows of views, the last column the number of their image, to counts of each image."""
    kept, right, true, position = torch.split(sums, [classes * BINS, classes * BINS, classes, 1], dim=1)
    images, row = torch.unique(position.squeeze(1), return_inverse=True)

    def add(values: Tensor) -> Tensor:
        return values.new_zeros(len(images), values.shape[1]).index_add_(0, row, values)

    return HeldOutCounts(add(kept).view(-1, classes, BINS), add(right).view(-1, classes, BINS), add(true))
