"""CReST+: predictions shifted so that on average they are what the labels are, before labels are read off them.

The mean prediction takes a pass of the network of its own, ahead of the one that stores aligned predictions. It is
kept as one note for each shard, so that a killed pass goes on after the last one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks
from evenseg.functional.labeling_rules import alignment_bias
from evenseg.stages.pseudo_label import manifest
from evenseg.stages.pseudo_label.encode import Calibrate, class_mass
from evenseg.stages.pseudo_label.label import Labeling
from evenseg.stages.pseudo_label.predict import Logits
from evenseg.training.folder import write_json

FOLDER = "mean_prediction"
_UNIT = 1 << 20  # of a pixel: whole numbers add up to the same in any order, on any number of processes


def align(labeling: Labeling, logits: Logits, calibrate: Calibrate | None, prior: Tensor, *, power: float) -> Calibrate:
    """Calibrates, then aligns.

    Args:
        labeling: the images, and where notes are kept.
        logits: of the network.
        calibrate: what is done to logits before.
        prior: (C,) labeled pixels or shares.
        power: see ``functional.labeling_rules.alignment_bias``.

    Raises:
        InputError: logits that are not finite.
    """
    rank, world_size, barrier = labeling.ranks
    own = range(rank, len(labeling.shards), world_size)
    total = torch.zeros(labeling.classes.num_classes, dtype=torch.int64)
    for done, shard in enumerate(own):
        note = labeling.output / FOLDER / f"{shard:06d}.json"
        if not note.exists():
            write_json(note, {"pixels": _shard_mass(labeling, shard, logits, calibrate).tolist(), "unit": _UNIT})
        total += torch.tensor(manifest.read(note)["pixels"])
        if labeling.progress is not None:
            labeling.progress("mean prediction", done + 1, len(own))
    barrier()
    mass = sum_over_ranks(total).double()
    bias = alignment_bias(prior, mass / mass.sum().clamp(min=1), power=power)

    def aligned(each: Tensor) -> Tensor:
        calibrated = each if calibrate is None else calibrate(each)
        return calibrated.float() + bias.to(each.device, torch.float32)[:, None, None]

    return aligned


def _shard_mass(labeling: Labeling, shard: int, logits: Logits, calibrate: Calibrate | None) -> Tensor:
    """(C,) int64 probability of each class, in units, over the pixels of the readable images of a shard."""
    total = torch.zeros(labeling.classes.num_classes, dtype=torch.int64)
    members = labeling.shards.members(shard)
    for number, outcome in zip(members, logits(members), strict=True):
        if not isinstance(outcome, str):
            total += (class_mass(*outcome, labeling.images.names[number], calibrate) * _UNIT).round().long()
    return total
