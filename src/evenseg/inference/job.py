"""What predicting images and predicting videos have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from evenseg.data.classes import Classes
from evenseg.data.resize import Resize
from evenseg.inference.pictures import Picture, Prediction, predict_pictures
from evenseg.inference.predict import Autocast, Protocol


class Job(NamedTuple):
    """A network, how it predicts, and which of its predictions are written where.

    model: maps (B, 3, H, W) images in [0, 1] to (B, C, H, W) logits.
    output: folder to write to; made if missing.
    classes: names and colours.
    protocol: how to predict.
    resize: the network's input as in training (``data.resize``): short side, or (height, width); probabilities are
        enlarged to the image before the most probable class is taken.
    overlay, prob: whether to write them.
    device, autocast: where and in which precision the model runs.
    threads: that read, and as many that write.
    """

    model: nn.Module
    output: Path
    classes: Classes
    protocol: Protocol
    resize: Resize = None
    overlay: bool = True
    prob: bool = False
    device: torch.device | str = "cpu"
    autocast: Autocast = nullcontext
    threads: int = 2

    def predictions(self, pictures: Iterable[Picture]) -> Iterator[Prediction]:
        """Predictions in the order of the pictures, see ``predict_pictures``."""
        return predict_pictures(
            self.model, pictures, self.protocol, prob=self.prob, device=self.device, autocast=self.autocast
        )
