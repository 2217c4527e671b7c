"""The predictor as one graph for any batch and image size: from bytes to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from evenseg.errors import InputError
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.outline import is_plain_transformer


class BytesToLogits(nn.Module):
    """What ``SegmentationNetwork.forward`` does to predict, written so that it can be traced for every size.

    A comparison of sizes would fix in the graph what the example answered, so there is none: images are
    always padded, logits always enlarged and cut, both through indices computed from the size.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """RGB images (B, 3, H, W) uint8 to logits (B, C, H, W) float32."""
        network = self.network
        height, width = image.shape[-2:]
        multiple, device = network.multiple, image.device
        rows, columns = ((side + multiple - 1) // multiple * multiple for side in (height, width))
        row = torch.arange(rows, device=device).clamp(max=height - 1)  # the edge is continued
        column = torch.arange(columns, device=device).clamp(max=width - 1)
        padded = image.index_select(2, row).index_select(3, column)
        normalised = torch.addcmul(network.shift, padded.float() / 255, network.scale)
        logits = network.segmentation_head(network.decoder(network.encoder(normalised)))
        logits = F.interpolate(logits, size=(rows, columns), mode="bilinear", align_corners=True)
        row, column = torch.arange(height, device=device), torch.arange(width, device=device)
        return logits.index_select(2, row).index_select(3, column)


def smallest_side(network: SegmentationNetwork) -> int:
    """Of the images that the graph takes: so large that no map is a single pixel.

    Decoders on a plain transformer halve its map once more.
    """
    halved = 2 if is_plain_transformer(network.encoder_name) else 1
    return max(network.smallest, halved * network.multiple + 1)


def trace(network: SegmentationNetwork) -> ExportedProgram:
    """The graph of a network in evaluation mode, dynamic in batch, height and width.

    Raises:
        InputError: the network does something that cannot be traced for every size.
    """
    smallest = smallest_side(network)
    sides = network.multiple * 3 + 5, network.multiple * 4 + 7  # neither equal, nor whole multiples, nor small
    example = torch.zeros(2, 3, *(max(side, smallest + 1) for side in sides), dtype=torch.uint8)
    size = Dim.DYNAMIC(min=smallest)
    try:
        with torch.no_grad():
            program = torch.export.export(
                BytesToLogits(network).eval(), (example,), dynamic_shapes=({0: Dim.DYNAMIC, 2: size, 3: size},)
            )
    except Exception as error:  # the tracer raises errors of many types
        raise untraceable(network, error) from None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, and half the size of a small graph
    return program


def untraceable(network: SegmentationNetwork, error: Exception) -> InputError:
    """The error for a network that cannot become a graph."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InputError(
        f"--format: {network.architecture} on {network.encoder_name} cannot be made a graph for every image size "
        f"({reason[:200]}); use --format safetensors"
    )
