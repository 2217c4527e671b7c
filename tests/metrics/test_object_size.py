"""Objects by size: regions by flood fill, counts by loops, groups as DARS defines them."""

import numpy as np
import pytest
import torch

from evenseg.metrics.object_size import EDGES, GROUPS, ObjectSizes, connected_regions, object_counts, size_groups


def flood_fill(label):
    """Lists of the pixels of each 4-connected region of equal values."""
    height, width = label.shape
    seen = np.zeros(label.shape, dtype=bool)
    regions = []
    for start in np.ndindex(label.shape):
        if seen[start]:
            continue
        seen[start] = True
        region, open_ = [], [start]
        while open_:
            y, x = open_.pop()
            region.append((y, x))
            for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= ny < height and 0 <= nx < width
                if inside and not seen[ny, nx] and label[ny, nx] == label[y, x]:
                    seen[ny, nx] = True
                    open_.append((ny, nx))
        regions.append(region)
    return regions


@pytest.mark.parametrize(("shape", "dtype"), [((13, 17), np.uint8), ((1, 9), np.int32), ((9, 1), np.uint16)])
def test_regions_are_those_of_a_flood_fill(shape, dtype):
    label = np.random.default_rng(0).integers(0, 3, shape).astype(dtype)
    regions = connected_regions(label)
    assert regions.shape == shape
    expected = flood_fill(label)
    assert len(np.unique(regions)) == len(expected)
    for region in expected:
        assert len({regions[pixel] for pixel in region}) == 1


def test_counts_of_every_object():
    rng = np.random.default_rng(1)
    label = np.kron(rng.integers(0, 4, (8, 8)), np.ones((5, 7))).astype(np.uint8)
    label[label == 3] = 255  # ignored
    pred = rng.integers(0, 3, label.shape)
    counts = object_counts(pred, label, 3)
    expected = np.zeros((3, 3, len(EDGES)), dtype=np.int64)
    for region in flood_fill(label):
        c = label[region[0]]
        if c == 255:
            continue
        share = len(region) / label.size
        size = next(i for i, edge in enumerate(EDGES) if share <= edge)
        right = sum(int(pred[pixel] == c) for pixel in region)
        expected[:, c, size] += 1, len(region), right
    assert np.array_equal(torch.stack(counts).numpy(), expected)
    assert int(counts.pixels.sum()) == int((label != 255).sum())


def test_sums_over_images():
    label = torch.zeros(10, 10, dtype=torch.uint8)
    label[0, :4] = 1
    sizes = ObjectSizes(2)
    sizes.update(torch.zeros(10, 10, dtype=torch.int64), label)
    sizes.update(torch.ones(10, 10, dtype=torch.int64), label)
    objects, pixels, right = sizes.counts.sum(dim=2).tolist()
    assert (objects, pixels, right) == ([2, 2], [192, 8], [96, 4])


def test_groups_of_dars():
    # a class in every image and large, one in every image and small, one in one of four and large, one rare and small
    pixels = torch.tensor([[70, 5, 0, 0], [70, 5, 25, 0], [90, 5, 0, 5], [95, 5, 0, 0]])
    counts = torch.stack([pixels, pixels, pixels], dim=1)
    absent = torch.cat([counts, torch.zeros(4, 3, 1, dtype=torch.int64)], dim=2)
    groups = size_groups(absent)
    assert [GROUPS[g] for g in groups[:4]] == ["frequent, large", "frequent, small", "rare, large", "rare, small"]
    assert groups[4] is None
