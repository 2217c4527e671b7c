"""A method that learns subclasses: what a recipe hands on arrives in it."""

from __future__ import annotations

import torch
from torch import nn

from evenseg.functional.losses import cross_entropy
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import Batch, DataFacts, Step, StepOutput, StepViews, ViewSpec, ignore_label


class Divided(Method):
    """A head on the student's feature learns the subclass maps; the student is supervised as ever."""

    views = ViewSpec(strong=1)

    def __init__(self, network: SegmentationNetwork, *, data: DataFacts) -> None:
        assert data.subclass_counts is not None
        total = int(data.subclass_counts.sum())
        network.add_head("subclass", nn.Conv2d(network.channels["decoder"], total, 1))
        super().__init__(network)
        parent = torch.arange(len(data.class_names)).repeat_interleave(data.subclass_counts)
        self.ignored = ignore_label(total)
        self.register_buffer("parent", parent)

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        labeled, losses = self.supervised(batch)
        subclass = batch.labeled.maps["subclass"]
        losses["subclass"] = cross_entropy(labeled.heads["subclass"], subclass, ignore_index=self.ignored)
        valid = subclass != self.ignored
        own = self.parent[torch.where(valid, subclass, 0)].where(valid, 255)
        log = {"stray": (own != batch.labeled.label).sum().float()}
        return self.finish(losses, log, StepViews(batch.labeled.label, labeled), step)
