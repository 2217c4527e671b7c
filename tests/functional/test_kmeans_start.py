"""The start of k-means: points of the data, far apart, drawn from the generator."""

import torch

from evenseg.functional.kmeans_start import kmeans_plus_plus


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_distinct_points_as_long_as_there_are_any() -> None:
    points = torch.randn(7, 3, generator=rng(0)).repeat(9, 1)
    centers = kmeans_plus_plus(points, 7, generator=rng(1))
    assert {tuple(row) for row in centers.tolist()} == {tuple(row) for row in points.tolist()}
    more = kmeans_plus_plus(points, 9, generator=rng(1))
    assert more.shape == (9, 3)


def test_distant_clouds_all_get_one() -> None:
    for seed in range(20):
        centers = 100 * torch.eye(6)
        points = centers.repeat_interleave(torch.tensor([500, 200, 100, 50, 10, 2]), dim=0)
        points = points + torch.randn(points.shape, generator=rng(seed))
        start = kmeans_plus_plus(points, 6, generator=rng(seed))
        assert torch.cdist(start, centers).argmin(dim=1).sort().values.tolist() == list(range(6))


def test_the_generator_decides() -> None:
    points = torch.randn(500, 3, generator=rng(0))
    first, again, other = (kmeans_plus_plus(points, 5, generator=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_first_is_any_point() -> None:
    points = torch.arange(10.0)[:, None]
    drawn = {float(kmeans_plus_plus(points, 1, generator=rng(seed))) for seed in range(100)}
    assert len(drawn) == 10
