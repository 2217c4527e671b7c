"""Images asked for ahead of time: what a bank wants at one step is loaded for a later one.

Loading processes work several steps ahead, so what is to be mixed in at step t is chosen by the banks as of step
t - ``LAG``, always the same number whatever the number of workers. Pending requests are state: a resumed run loads
what the killed one had asked for.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from evenseg.types import Step

LAG = 32  # steps; no loader may look further ahead
ANY = -1  # of an image or a class: whichever comes


class Requests(nn.Module):
    """For every slot of the coming ``LAG`` steps: the class that is wanted, and the image that should show it.

    Args:
        source: the list that the images are of.
        batch: slots of a step over all ranks.
    """

    image: Tensor
    wanted: Tensor

    def __init__(self, source: Literal["labeled", "unlabeled"], batch: int) -> None:
        super().__init__()
        self.source = source
        self.register_buffer("image", torch.full((LAG, batch), ANY))
        self.register_buffer("wanted", torch.full((LAG, batch), ANY))
        self._sent: dict[int, tuple[Tensor, torch.cuda.Event | None]] = {}  # rows on their way to the host, by step

    @property
    def batch(self) -> int:
        """Slots of a step over all ranks."""
        return self.image.shape[1]

    @torch.no_grad()
    def make(self, step: Step, wanted: Tensor, image: Tensor) -> None:
        """At the end of a step: ask for what step ``step.index + LAG`` is to be given.

        Args:
            step: the step that ends.
            wanted: (batch,) int64, a class for every slot.
            image: (batch,) int64, a position in the list for every slot, or ``ANY``.
        """
        row = step.index % LAG
        self.wanted[row] = wanted
        self.image[row] = image
        if image.device.type == "cuda":  # sent now, read many steps later: nobody waits
            host = torch.empty(self.batch, dtype=torch.int64, pin_memory=True)
            host.copy_(image, non_blocking=True)
            sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
            sent.record()
            self._sent[step.index + LAG] = (host, sent)
            self._sent.pop(step.index, None)  # where no loader has asked for it

    def wanted_at(self, step: Step, count: int) -> Tensor:
        """(count,) classes wanted for the slots of this rank's micro-batch at ``step``; ``ANY`` where none was."""
        first = step.labeled_slot if self.source == "labeled" else step.unlabeled_slot
        return self.wanted[step.index % LAG, first : first + count]

    def images_at(self, index: int) -> list[int]:
        """For the loader, on the host: the images requested for step ``index``, of all slots.

        ``index`` lies less than ``LAG`` steps after the last step that ended.
        """
        host, sent = self._sent.pop(index, (None, None))
        if host is None:  # on a CPU, and after a resume
            return [int(image) for image in self.image[index % LAG].tolist()]
        if sent is not None:
            sent.synchronize()
        return [int(image) for image in host.tolist()]
