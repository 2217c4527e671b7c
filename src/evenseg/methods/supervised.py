"""The reference line of every table: training on the labeled images alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from evenseg.components.base import Component
from evenseg.methods.base import Method
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.types import Batch, Fraction, Step, StepOutput, StepViews, ViewSpec


class Supervised(Method):
    """The supervised loss on labeled images; unlabeled ones are not read.

    For a fair comparison train it for as many optimiser steps, on the same crops and scales, as the
    method it is compared with. Some papers double ``train.labeled_batch`` instead.

    Args:
        ema_decay: decay of an averaged copy that is scored as the teacher; null for none.
        supervised_loss: cross_entropy, ohem, focal or class_weighted.
        components: pieces added to the method.
    """

    views = ViewSpec(unlabeled=False)

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        ema_decay: Fraction | None = None,
        supervised_loss: nn.Module | None = None,
        components: Sequence[Component] = (),
    ) -> None:
        super().__init__(network, supervised_loss=supervised_loss, components=components)
        if ema_decay is not None:
            self.teacher = EMATeacher(network, decay=ema_decay, buffers="ema")

    def training_step(self, batch: Batch, step: Step) -> StepOutput:
        """Cross-entropy (or its replacement) of the labeled images."""
        labeled, losses = self.supervised(batch)
        return self.finish(losses, {}, StepViews(label=batch.labeled.label, labeled=labeled), step)
