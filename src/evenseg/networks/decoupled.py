"""A teacher of which the encoder is an average of the student's, and the decoder learns by itself."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.ema import EMATeacher
from evenseg.networks.norm import freeze_batch_norm
from evenseg.types import NetworkOutput

TRAINED = ("decoder", "segmentation_head")
_PROTOTYPES = "segmentation_head.bank."


class DecoupledTeacher(EMATeacher):
    """The encoder, and extra heads, follow the student's; decoder and segmentation head are trained on labeled images.

    The encoder takes no gradient, and so lets none through. Prototypes follow nothing: they have updates of their own.

    Source: Ding et al., "Decoupling with Entropy-based Equalization for Semi-Supervised Semantic Segmentation" (DeS4),
    IJCAI 2023, Section 3.2, Eq. 5.

    Args:
        network: the student, copied; with a prototype head.
        decay, warmup: as of ``EMATeacher``.
        buffers: what becomes of the encoder's buffers: ``ema``, ``copy``, or ``own``, which makes it run in train mode.
            Those of the decoder are collected in ``labeled`` passes alone.
        decouple: False: the whole network follows, and nothing of it is trained.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        *,
        decay: float = 0.99,
        buffers: Literal["ema", "copy", "own"] = "ema",
        warmup: bool = True,
        decouple: bool = True,
    ) -> None:
        self.trained = TRAINED if decouple else ()
        mode: Literal["train", "eval"] = "train" if buffers == "own" else "eval"
        super().__init__(network, decay=decay, buffers=buffers, mode=mode, warmup=warmup)
        for name in self.trained:
            pairs = zip(
                self.network.get_submodule(name).parameters(), network.get_submodule(name).parameters(), strict=True
            )
            for own, other in pairs:
                own.requires_grad_(other.requires_grad)

    def labeled(self, image: Tensor) -> NetworkOutput:
        """The output on labeled images (B, 3, H, W) in [0, 1]: the trained parts in train mode and with gradient."""
        if not self.trained:
            return self(image)  # type: ignore[no-any-return]
        self._mode_of_trained(True)
        try:
            output: NetworkOutput = self.network(image)
        finally:
            self._mode_of_trained(False)
        return output

    def train(self, mode: bool = True) -> DecoupledTeacher:
        """Keeps the mode chosen at construction; the trained parts are in eval mode outside of ``labeled``."""
        super().train(mode)
        self._mode_of_trained(False)
        return self

    def follows(self, name: str) -> bool:
        """All but the trained parts and the prototypes."""
        return not name.startswith((_PROTOTYPES, *(f"{part}." for part in self.trained)))

    def take_buffers(self, student: SegmentationNetwork) -> None:
        """Nothing: it makes a ``labeled`` pass in every step, by which it comes to statistics of its own."""

    def _mode_of_trained(self, mode: bool) -> None:
        for name in self.trained:
            part = self.network.get_submodule(name).train(mode)
            if self.network.norm == "frozen":
                freeze_batch_norm(part)


def share_prototypes(network: SegmentationNetwork, other: SegmentationNetwork) -> None:
    """Give ``network`` the prototypes of ``other``: the same tensors, not equal ones."""
    own, theirs = (torch.nn.Module.get_submodule(each, "segmentation_head") for each in (network, other))
    own.bank = theirs.bank
