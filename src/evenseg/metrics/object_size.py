"""How well objects are found by their size: a connected region of one class in the label is an object.

DARS (He et al., ICCV 2021, Section 4.4 and Fig. 5) finds that small objects are a bottleneck of their own beside
rare classes, and groups classes by both: appearing in more than half of the images or in fewer, covering more than a
tenth of the image or less.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from evenseg.functional.distributed import sum_over_ranks

# Shares of the image's area that divide small from large, a factor of sqrt(10) apart, 1 at the end.
EDGES = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1, 3.16e-1, 1.0)
OFTEN = 0.5  # of the images: a class that is in more of them is frequent (DARS, Section 4.4)
LARGE = 0.1  # of the image: a class that covers more of those it is in is large (ibid.)
GROUPS = ("frequent, large", "frequent, small", "rare, large", "rare, small")


class ObjectCounts(NamedTuple):
    """Of one image or many, (C, len(EDGES)) int64 each: objects of the class and size, their pixels, and those of
    their pixels that are predicted rightly."""

    objects: Tensor
    pixels: Tensor
    right: Tensor


def object_counts(pred: np.ndarray, label: np.ndarray, num_classes: int) -> ObjectCounts:
    """Counts the objects of one image.

    Args:
        pred: (H, W) any integer dtype, values 0..C-1.
        label: (H, W) any integer dtype; values of C and above are ignored, and belong to no object.
        num_classes: C.
    """
    region = connected_regions(label)
    area = np.bincount(region.ravel())
    of_class = np.zeros(len(area), dtype=np.int64)
    of_class[region.ravel()] = label.ravel()  # all pixels of a region have one label
    hits = np.bincount(region.ravel(), weights=(pred == label).ravel()).astype(np.int64)
    known = of_class < num_classes
    size = np.searchsorted(np.asarray(EDGES[:-1]), area / label.size, side="left")
    cell = (of_class * len(EDGES) + size)[known]

    def table(values: np.ndarray) -> Tensor:
        sums = np.bincount(cell, weights=values[known], minlength=num_classes * len(EDGES))
        return torch.from_numpy(sums.astype(np.int64)).view(num_classes, len(EDGES))

    return ObjectCounts(table(np.ones_like(area)), table(area), table(hits))


def connected_regions(label: np.ndarray) -> np.ndarray:
    """(H, W) int32 ids, from 0 on, of the 4-connected regions of equal values of an (H, W) integer map."""
    height, width = label.shape
    # One pass for all classes: between every two pixels a cell that is passable where they are equal.
    grid = np.zeros((2 * height - 1, 2 * width - 1), dtype=np.uint8)
    grid[::2, ::2] = 1
    grid[1::2, ::2] = label[1:] == label[:-1]
    grid[::2, 1::2] = label[:, 1:] == label[:, :-1]
    _, region = cv2.connectedComponents(grid, connectivity=4, ltype=cv2.CV_32S)
    return np.ascontiguousarray(region[::2, ::2]) - 1  # 0 is the walls


class ObjectSizes:
    """Sums of ``object_counts`` over images, and over ranks when asked. counts: (3, C, len(EDGES)) int64."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(3, num_classes, len(EDGES), dtype=torch.int64)

    def update(self, pred: Tensor, label: Tensor) -> None:
        """Adds one image: (H, W) prediction and label of any integer dtype, on any device."""
        self.counts += torch.stack(object_counts(pred.cpu().numpy(), label.cpu().numpy(), self.num_classes))

    def all_reduce(self, device: torch.device) -> None:
        """Replaces the counts by their sum over all ranks, through ``device``; every rank must call it, once."""
        self.counts = sum_over_ranks(self.counts.to(device)).cpu()


def size_groups(image_counts: Tensor) -> list[int | None]:
    """The group of each class, an index into ``GROUPS``; None for one that does not occur.

    Args:
        image_counts: (N, 3, C) of ``metrics.image_counts``, of N images.
    """
    truth = image_counts[:, 1].double()  # (N, C) true pixels
    contains = truth > 0
    labeled = truth.sum(dim=1, keepdim=True).clamp(min=1)
    often = contains.double().mean(dim=0) > OFTEN
    area = (truth / labeled).sum(dim=0) / contains.sum(dim=0)  # mean over the images that contain it
    group = 2 * (~often).long() + (area <= LARGE).long()
    return [int(g) if occurs else None for g, occurs in zip(group, contains.any(dim=0), strict=True)]
