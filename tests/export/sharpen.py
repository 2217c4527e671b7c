"""Networks of random weights whose labels depend on every part of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from evenseg.data.classes import Classes, palette
from evenseg.data.synthetic import SyntheticStreets
from evenseg.export import TrainedModel
from evenseg.networks.base import SegmentationNetwork


def scenes(count: int, size: tuple[int, int] = (96, 128)) -> list[np.ndarray]:
    """Synthetic street scenes, (H, W, 3) uint8."""
    streets = SyntheticStreets(seed=0, first=0, count=count, size=size)
    return [streets.image(index) for index in range(count)]


@torch.no_grad()
def sharpen(network: SegmentationNetwork, images: list[np.ndarray]) -> None:
    """Give batch norm the statistics of the images, and every class logits of mean 0 and deviation 1 on them.

    A random network labels all pixels alike, and two such networks agree whatever is wrong with one.
    """
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    network.train()
    for _ in range(5):
        network(batch)
    network.eval()
    logits = network(batch).logits
    deviation, mean = torch.std_mean(logits, dim=(0, 2, 3))
    convolutions = [module for module in network.segmentation_head.modules() if isinstance(module, nn.Conv2d)]
    summed = [module for module in convolutions if module.out_channels == len(mean)]  # several in DeepLabV2
    for module in summed:
        assert module.bias is not None
        module.weight /= deviation[:, None, None, None]
        module.bias /= deviation
    summed[-1].bias -= mean / deviation


def random_model(
    architecture: str, encoder: str, *, classes: int = 5, size: tuple[int, int] = (96, 128)
) -> TrainedModel:
    """A sharpened network of random weights."""
    torch.manual_seed(0)
    network = SegmentationNetwork(architecture, encoder, num_classes=classes)
    sharpen(network, scenes(3, size))
    names = tuple(f"class {index}" for index in range(classes))
    return TrainedModel(network.eval(), Classes(names, palette(classes), 255, None), None, "random")
