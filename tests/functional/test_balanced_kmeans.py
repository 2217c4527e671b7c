"""Balanced k-means: exact sizes, cost against an exact solver, monotone iterations, determinism, odd cases."""

from itertools import pairwise

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from evenseg.functional import balanced_kmeans as module
from evenseg.functional.clustering import Clusters, balanced_kmeans


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, d: int, *, seed: int = 0, count: int = 6) -> Tensor:
    """Clouds of very unequal weight."""
    g = rng(seed)
    weight = torch.rand(count, generator=g) ** 3 + 0.01
    own = torch.multinomial(weight, n, replacement=True, generator=g)
    return 3 * torch.randn(count, d, generator=g)[own] + torch.randn(n, d, generator=g)


def distances(points: Tensor, centers: Tensor) -> Tensor:
    return (points.double()[:, None] - centers.double()).square().sum(dim=2)


def cost(points: Tensor, clusters: Clusters) -> float:
    return float(distances(points, clusters.centers).gather(1, clusters.assignment[:, None]).sum())


def least_cost(points: Tensor, centers: Tensor) -> float:
    """Of all assignments with sizes floor or ceil of N / K: each center has floor columns and one that may be left to a
    row without cost."""
    distance = distances(points, centers)
    n, k = distance.shape
    floor, larger = divmod(n, k)
    columns = torch.cat([distance.repeat_interleave(floor, dim=1), distance], dim=1)
    idle = torch.cat([torch.full((k - larger, k * floor), 1e12), torch.zeros(k - larger, k)], dim=1)
    rows = torch.cat([columns, idle.double()]).numpy()
    return float(rows[linear_sum_assignment(rows)].sum())


def assert_balanced(clusters: Clusters, n: int, k: int) -> None:
    sizes = torch.bincount(clusters.assignment, minlength=k)
    assert len(sizes) == k
    assert set(sizes.tolist()) <= {n // k, -(-n // k)}
    assert int(sizes.sum()) == n


@pytest.mark.parametrize(
    ("n", "d", "k"), [(10, 2, 4), (37, 3, 5), (60, 1, 60), (100, 8, 33), (500, 4, 3), (799, 2, 8), (1500, 6, 12)]
)
def test_cost_of_an_exact_solver(n: int, d: int, k: int) -> None:
    for seed in range(3 if n < 1000 else 1):
        points = blobs(n, d, seed=seed)
        clusters = balanced_kmeans(points, k, generator=rng(seed))
        assert clusters.centers.shape == (k, d)
        assert clusters.prices.shape == (k,)
        assert_balanced(clusters, n, k)
        assert cost(points, clusters) <= 1.001 * least_cost(points, clusters.centers) + 1e-9


def test_sizes_for_random_numbers() -> None:
    g = rng(5)
    for seed in range(12):
        n = int(torch.randint(1, 200, (1,), generator=g))
        k = int(torch.randint(1, n + 1, (1,), generator=g))
        assert_balanced(balanced_kmeans(torch.randn(n, 3, generator=g), k, generator=rng(seed), iterations=4), n, k)


def test_the_assignment_follows_from_centers_and_prices_but_for_few() -> None:
    points = blobs(4000, 8)
    clusters = balanced_kmeans(points, 9, generator=rng(0))
    free = (distances(points, clusters.centers) + clusters.prices).argmin(dim=1)
    assert float((free != clusters.assignment).float().mean()) <= 0.01


def test_cost_never_rises_over_iterations() -> None:
    points = blobs(900, 5, seed=3)
    costs = [cost(points, balanced_kmeans(points, 7, generator=rng(1), iterations=n)) for n in range(1, 15)]
    assert all(later <= earlier * (1 + 2e-4) for earlier, later in pairwise(costs))
    assert costs[-1] < 0.95 * costs[0]


def test_where_the_nearest_centers_are_balanced_they_are_chosen() -> None:
    points = torch.cat([c + 0.1 * torch.randn(50, 2, generator=rng(i)) for i, c in enumerate(10 * torch.eye(4)[:, :2])])
    points = torch.cat([points[:100], 10 + points[:100]])
    clusters = balanced_kmeans(points, 4, generator=rng(0))
    nearest = distances(points, clusters.centers)
    assert torch.equal(clusters.assignment, nearest.argmin(dim=1))
    assert cost(points, clusters) == pytest.approx(float(nearest.amin(dim=1).sum()))


def test_balance_costs_something() -> None:
    points = blobs(1000, 4, seed=2)
    clusters = balanced_kmeans(points, 8, generator=rng(0))
    assert cost(points, clusters) >= float(distances(points, clusters.centers).amin(dim=1).sum())
    assert cost(points, balanced_kmeans(points, 8, generator=rng(0), balance="none")) < cost(points, clusters)


def test_plain_kmeans_goes_to_the_nearest_center() -> None:
    points = blobs(1000, 4, seed=2)
    clusters = balanced_kmeans(points, 8, generator=rng(0), balance="none")
    assert torch.equal(clusters.assignment, distances(points, clusters.centers).argmin(dim=1))
    assert not clusters.prices.any()
    for index in range(8):
        mean = points[clusters.assignment == index].mean(dim=0)
        assert torch.allclose(clusters.centers[index], mean, atol=0.1)


def test_soft_balance_lies_between_the_two() -> None:
    points = blobs(1200, 4, seed=2)
    sizes, costs = [], []
    for balance, strength in (("none", 0.5), ("soft", 0.0), ("soft", 0.3), ("soft", 0.7), ("soft", 1.0), ("hard", 0.5)):
        clusters = balanced_kmeans(points, 8, generator=rng(0), balance=balance, strength=strength)
        to_go = distances(points, clusters.centers) + clusters.prices
        if balance == "soft":
            assert torch.equal(clusters.assignment, to_go.argmin(dim=1))
        sizes.append(float(torch.bincount(clusters.assignment, minlength=8).double().std()))
        costs.append(cost(points, clusters))
    assert sizes[0] == sizes[1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-2] < 0.1 * sizes[0]
    assert costs[0] < costs[-2]
    with pytest.raises(ValueError, match="strength must be in"):
        balanced_kmeans(points, 8, generator=rng(0), balance="soft", strength=1.5)


def test_one_cluster_and_as_many_as_points() -> None:
    points = torch.randn(20, 3, generator=rng(0)) + 5
    one = balanced_kmeans(points, 1, generator=rng(0))
    assert torch.allclose(one.centers[0], points.mean(dim=0))
    assert not one.assignment.any()
    each = balanced_kmeans(points, 20, generator=rng(0))
    assert torch.allclose(each.centers[each.assignment], points, atol=1e-5)
    assert len(each.assignment.unique()) == 20


@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_equal_points_are_divided_evenly(distinct: int) -> None:
    points = torch.randn(distinct, 3, generator=rng(0)).repeat(200, 1)
    clusters = balanced_kmeans(points, 7, generator=rng(0))
    assert_balanced(clusters, len(points), 7)
    assert bool(clusters.centers.isfinite().all())
    assert bool(clusters.prices.isfinite().all())
    assert cost(points, clusters) <= 1.001 * least_cost(points, clusters.centers) + 1e-6


def test_neither_offset_nor_scale_matters() -> None:
    points = blobs(600, 4)
    plain = balanced_kmeans(points, 5, generator=rng(0))
    for factor, offset in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1000.0)):
        other = balanced_kmeans(points.double() * factor + offset, 5, generator=rng(0))
        assert other.centers.dtype == torch.float64
        assert float((other.assignment != plain.assignment).float().mean()) <= 0.01
        assert torch.allclose((other.centers - offset) / factor, plain.centers.double(), atol=0.05)


def test_half_precision_and_integers() -> None:
    points = blobs(500, 4)
    assert_balanced(balanced_kmeans(points.half(), 6, generator=rng(0)), 500, 6)
    assert_balanced(balanced_kmeans((10 * points).long(), 6, generator=rng(0)), 500, 6)


def test_many_points_are_clustered_by_way_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 1000)
    monkeypatch.setattr(module, "SAMPLE_PER_CLUSTER", 10)
    points = blobs(6001, 6, seed=4)
    clusters = balanced_kmeans(points, 11, generator=rng(0))
    assert_balanced(clusters, 6001, 11)
    monkeypatch.setattr(module, "SAMPLE", 10_000)
    assert cost(points, clusters) <= 1.02 * cost(points, balanced_kmeans(points, 11, generator=rng(0)))


def test_more_points_than_the_repair_looks_at() -> None:
    points = blobs(40_003, 4, seed=6)
    clusters = balanced_kmeans(points, 10, generator=rng(0), iterations=5)
    assert_balanced(clusters, 40_003, 10)
    distance, prices = distances(points, clusters.centers), clusters.prices.double()
    floor, larger = divmod(40_003, 10)
    bound = (distance + prices).amin(dim=1).sum() - floor * prices.sum() - prices.topk(larger).values.sum()
    assert cost(points, clusters) <= 1.001 * float(bound)  # by linear programming's duality


def test_the_generator_decides() -> None:
    points = blobs(3000, 4)
    first, again, other = (balanced_kmeans(points, 6, generator=rng(seed)) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.centers, other.centers)


def test_the_points_are_left_as_they_are() -> None:
    points = blobs(300, 4)
    kept = points.clone()
    balanced_kmeans(points, 6, generator=rng(0))
    assert torch.equal(points, kept)


def test_bad_input_is_refused() -> None:
    points = torch.randn(10, 2, generator=rng(0))
    for k in (0, 11):
        with pytest.raises(ValueError, match=f"10 points cannot form {k} clusters"):
            balanced_kmeans(points, k, generator=rng(0))
    for bad in (torch.nan, torch.inf):
        broken = points.clone()
        broken[3, 1] = bad
        for k in (1, 3, 10):
            with pytest.raises(ValueError, match="finite"):
                balanced_kmeans(broken, k, generator=rng(0))
    for shape in ((10,), (0, 2), (10, 0)):
        with pytest.raises(ValueError, match="matrix"):
            balanced_kmeans(torch.zeros(shape), 1, generator=rng(0))
    with pytest.raises(ValueError, match="iterations"):
        balanced_kmeans(points, 2, generator=rng(0), iterations=0)
    with pytest.raises(ValueError, match="softest"):
        balanced_kmeans(points, 2, generator=rng(0), balance="softest")  # type: ignore[arg-type]
