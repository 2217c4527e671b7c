"""Clusters of streams: even sizes, the same sample in any order, and the kinds of chunks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evenseg.functional.clustering import assign_stream, balanced_kmeans, fit_stream, merge, reservoir
from evenseg.functional.pixel_keys import pixel_keys

from .test_balanced_kmeans import blobs, distances, rng


def variation(sizes: Tensor) -> float:
    return float(sizes.double().std(correction=0) / sizes.double().mean())


def test_reservoirs_of_shards_merge_to_that_of_the_whole() -> None:
    points, keys = blobs(1000, 3), pixel_keys("a", torch.arange(1000), seed=4)
    whole = reservoir(keys, points, 64)
    assert whole.keys.tolist() == sorted(keys.tolist())[:64]
    assert torch.equal(whole.points, points[keys.argsort()[:64]])
    order = torch.randperm(1000, generator=rng(0))
    parts = [reservoir(keys[some], points[some], 64) for some in order.split([10, 500, 3, 487])]
    for shards in (parts, parts[::-1], [merge(parts[:2], 64), merge(parts[2:], 64)]):
        merged = merge(shards, 64)
        assert torch.equal(merged.keys, whole.keys)
        assert torch.equal(merged.points, whole.points)
    with pytest.raises(ValueError, match="no sample"):
        merge([], 3)


def test_all_points_are_divided_evenly_although_few_are_sampled() -> None:
    points = blobs(60_000, 6, seed=2)
    frozen = fit_stream(points, 12, generator=rng(0), sample=1500, corrections=0)
    clusters = fit_stream(points, 12, generator=rng(0), sample=1500)
    assigned = torch.cat(list(assign_stream(points, clusters)))
    assert torch.equal(torch.bincount(assigned, minlength=12), clusters.sizes)
    assert torch.equal(assigned, (distances(points, clusters.centers) + clusters.prices).argmin(dim=1))
    assert torch.equal(clusters.centers, frozen.centers)
    assert variation(frozen.sizes) <= 0.15
    assert variation(clusters.sizes) <= min(0.02, variation(frozen.sizes))


def test_a_memory_map_of_half_precision(tmp_path: Path) -> None:
    points = blobs(20_000, 8).half()
    points.numpy().tofile(tmp_path / "points")
    stored = np.memmap(tmp_path / "points", dtype=np.float16, mode="r", shape=(20_000, 8))
    fitted = [fit_stream(chunks, 7, generator=rng(0), sample=2000) for chunks in (stored, points)]
    for one, two in zip(*fitted, strict=True):
        assert torch.equal(one, two)
    assert int(fitted[0].sizes.sum()) == 20_000
    part = torch.cat(list(assign_stream(stored[100:300], fitted[0])))
    assert torch.equal(part, torch.cat(list(assign_stream(points, fitted[0])))[100:300])


def test_functions_lists_and_iterators() -> None:
    points = blobs(9000, 4)
    passes = []

    def read() -> Iterator[Tensor]:
        passes.append(0)
        yield from points.split(1234)

    whole = fit_stream(points, 5, generator=rng(0), sample=1000)
    for chunks in (read, list(points.split(700))):
        found = fit_stream(chunks, 5, generator=rng(0), sample=1000)
        assert torch.equal(found.centers, whole.centers)
        assert torch.allclose(found.prices, whole.prices, atol=1e-4)
    assert len(passes) >= 2
    once = fit_stream(read(), 5, generator=rng(0), sample=1000)
    assert torch.equal(once.centers, whole.centers)
    assert int(once.sizes.sum()) == 1000
    assert [len(own) for own in assign_stream(read(), once)] == [len(part) for part in points.split(1234)]


def test_keys_make_the_order_of_points_indifferent() -> None:
    points, keys = blobs(5000, 4), pixel_keys("image", torch.arange(5000), seed=1)
    order = torch.randperm(5000, generator=rng(9))
    whole = fit_stream([(keys, points)], 6, generator=rng(0), sample=800)
    parts = list(zip(keys[order].split(321), points[order].split(321), strict=True))
    other = fit_stream(parts, 6, generator=rng(0), sample=800)
    assert torch.equal(whole.centers, other.centers)
    assert torch.equal(whole.sizes, other.sizes)


def test_a_sample_of_everything_is_what_balanced_kmeans_finds() -> None:
    points = blobs(600, 4)
    clusters = fit_stream(points, 6, generator=rng(0), corrections=0)
    assert clusters.sizes.tolist() == pytest.approx([100] * 6, abs=3)
    again = list(assign_stream(points, balanced_kmeans(points, 6, generator=rng(0))))
    assert torch.bincount(torch.cat(again)).tolist() == pytest.approx([100] * 6, abs=3)


def test_plain_kmeans_and_one_cluster() -> None:
    points = blobs(3000, 4)
    plain = fit_stream(points, 6, generator=rng(0), sample=500, balance="none")
    assert not plain.prices.any()
    assert torch.equal(torch.cat(list(assign_stream(points, plain))), distances(points, plain.centers).argmin(dim=1))
    soft = fit_stream(points, 6, generator=rng(0), sample=500, balance="soft", strength=0.5)
    hard = fit_stream(points, 6, generator=rng(0), sample=500)
    assert hard.sizes.double().std() < soft.sizes.double().std() < plain.sizes.double().std()
    assert fit_stream(points, 1, generator=rng(0)).sizes.tolist() == [3000]


def test_bad_input_is_refused() -> None:
    points = torch.randn(50, 2, generator=rng(0))
    with pytest.raises(ValueError, match="50 points cannot form 51"):
        fit_stream(points, 51, generator=rng(0))
    with pytest.raises(ValueError, match="no points"):
        fit_stream([], 2, generator=rng(0))
    with pytest.raises(ValueError, match="matrix"):
        fit_stream([points[0]], 2, generator=rng(0))
    with pytest.raises(ValueError, match="as many keys"):
        fit_stream([(torch.arange(3), points)], 2, generator=rng(0))
    with pytest.raises(ValueError, match="need keys"):
        fit_stream(points, 2, generator=rng(0), sharded=True)
    broken = points.clone()
    broken[7, 1] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        fit_stream(broken, 2, generator=rng(0))
    with pytest.raises(ValueError, match="finite"):
        list(assign_stream(broken, fit_stream(points, 2, generator=rng(0))))
