"""A head that classifies by prototypes: nothing of the classifier itself is learned by gradient."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.functional.prototypes import ClassMean, moved_prototypes, prototype_logits, simplex

NEVER = -1e4  # the logit of a class that is never predicted: no probability in any precision, and no NaN when enlarged

Start = Literal["simplex", "random"]


class PrototypeOptions(NamedTuple):
    """How a prototype head classifies.

    dimension: of prototypes and embedding. temperature: that cosines are divided by. projection: from the decoder to
    the embedding: what would be the architecture's classifier (``linear``; of DeepLabV3+ a 1x1 convolution), or two
    layers and a layer norm (``mlp``). logit_norm: ``layernorm``, with scale and shift, over the classes of each pixel.
    learn_temperature: by gradient. center: whether the mean prototype is subtracted. mask_absent: never predict
    classes without a labeled pixel.
    """

    dimension: int = 256
    temperature: float = 0.1
    projection: Literal["linear", "mlp"] = "linear"
    logit_norm: Literal["none", "layernorm"] = "none"
    learn_temperature: bool = False
    center: bool = False
    mask_absent: bool = True


class PrototypeBank(nn.Module):
    """The prototypes, (C, d) float32, and how often each has moved, (C,) int64.

    ``class_pixels`` are (C,) int64 labeled pixels of each class, for those that know them.
    """

    prototypes: Tensor
    updates: Tensor
    class_pixels: Tensor

    def __init__(self, num_classes: int, dimension: int, class_frequency: Tensor | None = None) -> None:
        super().__init__()
        pixels = torch.ones(num_classes) if class_frequency is None else class_frequency
        self.register_buffer("prototypes", torch.zeros(num_classes, dimension))
        self.register_buffer("updates", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("class_pixels", pixels.long().clone())

    @torch.no_grad()
    def begin(self, start: Start) -> None:
        """Draw the prototypes from torch's generator: a ``simplex``, or ``random`` directions.

        Raises:
            ValueError: a simplex of more classes than dimensions.
        """
        if start == "simplex":
            self.prototypes.copy_(simplex(*self.prototypes.shape))
        else:
            drawn = nn.init.trunc_normal_(torch.empty_like(self.prototypes), std=0.02)
            self.prototypes.copy_(F.normalize(drawn, dim=1))

    @torch.no_grad()
    def move(self, mean: ClassMean, momentum: float | Tensor, *, normalize: bool = True) -> None:
        """Towards the mean of each class, see ``moved_prototypes``."""
        moved, moves = moved_prototypes(self.prototypes, mean, momentum, normalize=normalize)
        self.prototypes.copy_(moved)
        self.updates += moves


class PrototypeHead(nn.Module):
    """Projects the decoder's map and compares it with the prototypes: (B, channels, h, w) to logits (B, C, h, w).

    Source: Ding et al., "Decoupling with Entropy-based Equalization for Semi-Supervised Semantic Segmentation" (DeS4),
    IJCAI 2023, Eq. 1-3 and 6.

    Args:
        projection: (B, channels, h, w) to (B, d, h, w).
        num_classes: C.
        options: see ``PrototypeOptions``.
        class_frequency: (C,) labeled pixels of each class; None: unknown, and no class is masked.
    """

    def __init__(
        self, projection: nn.Module, num_classes: int, options: PrototypeOptions, class_frequency: Tensor | None = None
    ) -> None:
        super().__init__()
        self.options = options
        self.projection = projection
        self.bank = PrototypeBank(num_classes, options.dimension, class_frequency)
        self.logit_norm = nn.LayerNorm(num_classes) if options.logit_norm == "layernorm" else None
        self.log_temperature: nn.Parameter | None = None
        if options.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(options.temperature)))

    def forward(self, decoded: Tensor) -> Tensor:
        """(B, channels, h, w) to logits (B, C, h, w) float32."""
        return self.classify(self.project(decoded))

    def project(self, decoded: Tensor) -> Tensor:
        """(B, channels, h, w) to the embedding (B, d, h, w)."""
        embedding: Tensor = self.projection(decoded)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """The embedding (B, d, h, w) to logits (B, C, h, w) float32."""
        temperature: float | Tensor = self.options.temperature
        if self.log_temperature is not None:
            temperature = self.log_temperature.exp()
        prototypes, absent = self.bank.prototypes, self.bank.class_pixels == 0
        center = None
        if self.options.center:
            known = (~absent).float()[:, None]
            center = (F.normalize(prototypes, dim=1) * known).sum(dim=0) / known.sum().clamp(min=1)
        logits = prototype_logits(embedding, prototypes, temperature=temperature, center=center)
        if self.logit_norm is not None:
            logits = self.logit_norm(logits.movedim(1, -1)).float().movedim(-1, 1)
        if self.options.mask_absent:
            logits = torch.where(absent[:, None, None], NEVER, logits)
        return logits


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, channels, h, w)."""

    def forward(self, feature: Tensor) -> Tensor:
        return super().forward(feature.movedim(1, -1)).movedim(-1, 1)


def mlp_projection(in_channels: int, dimension: int) -> nn.Module:
    """Two 1x1 convolutions with batch norm and ReLU between them, then layer norm: that of Zhou et al., CVPR 2022."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, kernel_size=1),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, dimension, kernel_size=1),
        _ChannelNorm(dimension),
    )
