"""The pieces of the stage ``cluster``, against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evenseg.data.classes import Classes, palette
from evenseg.errors import InputError
from evenseg.functional.pixel_keys import pixel_keys
from evenseg.networks.base import SegmentationNetwork
from evenseg.stages.cluster.codebook import Codebook
from evenseg.stages.cluster.counts import chosen_counts, explicit_counts
from evenseg.stages.cluster.features import CellFiles, Cells, Features
from evenseg.stages.cluster.fit import Sample, balance_prices, fit_classes
from evenseg.stages.cluster.grid import Grid
from evenseg.stages.cluster.report import ClusterReport
from evenseg.stages.cluster.sample import draw_cells, gather_features
from evenseg.stages.cluster.write import subclass_map
from evenseg.types import NetworkOutput

CLASSES = Classes(("road", "car", "sign"), palette(3))


def codebook(seed: int = 0, counts: tuple[int, ...] = (3, 1, 4), dimension: int = 5) -> Codebook:
    g = torch.Generator().manual_seed(seed)
    total = sum(counts)
    prices = torch.rand(total, generator=g)
    return Codebook(torch.tensor(counts), torch.randn(total, dimension, generator=g), prices)


def cheapest(book: Codebook, feature: Tensor, number: int) -> int:
    """The rule as the specification writes it: argmin of ||f - mu_k||^2 + price_k over the class's subclasses."""
    ids = range(*book.of_class(number).indices(len(book.centers)))
    return min(ids, key=lambda k: float((feature.double() - book.centers[k].double()).square().sum() + book.prices[k]))


@pytest.mark.parametrize("grid", [Grid(8, 1), Grid(4, 1), Grid(64, 4), Grid(14, 4), Grid(7, 2)])
def test_cells_and_pixels(grid: Grid) -> None:
    stride = grid.pixels / grid.cells
    assert grid.cell_of_pixels(50).tolist() == [int(pixel / stride) for pixel in range(50)]
    count = int(grid.cell_of_pixels(50)[-1]) + 1
    centers = grid.centers(count, 50)
    assert centers.tolist() == [min(int((cell + 0.5) * stride), 49) for cell in range(count)]
    if stride >= 2:
        assert grid.cell_of_pixels(50)[centers].tolist() == list(range(count))
    assert grid.pooled(2).pixels / grid.pooled(2).cells == 2 * stride


class Huge(torch.nn.Module):
    """A network whose features are beyond the reach of 16 bits."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> NetworkOutput:
        output = self.network(image)
        return output._replace(features={name: 1e6 * value for name, value in output.features.items()})


@pytest.mark.parametrize(("tap", "size", "shape"), [("decoder", (48, 64), (6, 8)), ("decoder", (37, 50), (5, 7))])
def test_features_are_means_of_the_networks_without_its_padding(
    tap: str, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork("deeplabv3plus", "resnet18", num_classes=3).eval()
    features = Features.of(network, tap, 8)  # type: ignore[arg-type]
    assert (features.pool, features.grid.pixels / features.grid.cells) == (2, 8)
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        whole = network(image).features[tap][0]  # at stride 4, cut to the image
    found = features(image).float()
    assert found.shape == (*shape, network.channels["decoder"])
    for row in range(shape[0]):
        for column in range(shape[1]):
            mean = whole[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean(dim=(1, 2))
            torch.testing.assert_close(found[row, column], mean, atol=2e-3, rtol=2e-3)
    assert features(image).dtype == torch.float16
    huge = features._replace(network=Huge(network))  # type: ignore[arg-type]
    torch.testing.assert_close(huge(image), 1e6 * found, atol=1e3, rtol=2e-3)
    high = Features.of(network, "high", 8)
    assert (high.pool, high.grid.pixels / high.grid.cells) == (1, 16)


def test_assignment_is_by_distance_and_price() -> None:
    book = codebook()
    feature, group = torch.randn(60, 5).half(), torch.randint(0, 3, (60,))
    expected = [cheapest(book, each.float(), int(number)) for each, number in zip(feature, group, strict=True)]
    assert book.assign(feature, group).tolist() == expected
    far = book._replace(centers=book.centers + 1000)  # where squares of 32 bits would cancel
    assert far.assign((feature.float() + 1000), group).tolist() == [
        cheapest(far, each.float() + 1000, int(number)) for each, number in zip(feature, group, strict=True)
    ]


@pytest.mark.parametrize("counts", [(3, 1, 4), (300, 1, 4)])
def test_every_pixel_has_a_subclass_of_its_class(counts: tuple[int, ...]) -> None:
    book, grid = codebook(counts=counts), Grid(8, 1)
    rng = np.random.default_rng(0)
    label = rng.choice(np.array([0, 1, 2, 255], np.uint8), (19, 27))
    shape = (3, 4)
    cells = Cells(rng.normal(size=(*shape, 5)).astype(np.float16), grid.cell_labels(label, shape))
    found = subclass_map(label, cells, book, grid, CLASSES, "consistent")
    ignored = 255 if sum(counts) <= 255 else 65535
    for row in range(19):
        for column in range(27):
            own = int(label[row, column])
            feature = torch.from_numpy(cells.feature[row // 8, column // 8]).float()
            assert found[row, column] == (ignored if own == 255 else cheapest(book, feature, own))
    nearest = subclass_map(label, cells, book, grid, CLASSES, "nearest")
    for row in range(19):
        for column in range(27):
            center = label[min(row // 8 * 8 + 4, 18), min(column // 8 * 8 + 4, 26)]
            feature = torch.from_numpy(cells.feature[row // 8, column // 8]).float()
            assert nearest[row, column] == (ignored if center == 255 else cheapest(book, feature, int(center)))


def test_both_modes_agree_on_blocks_as_large_as_cells() -> None:
    book, grid, rng = codebook(), Grid(8, 1), np.random.default_rng(1)
    label = rng.choice(np.array([0, 1, 2, 255], np.uint8), (3, 4)).repeat(8, 0).repeat(8, 1)
    cells = Cells(rng.normal(size=(3, 4, 5)).astype(np.float16), grid.cell_labels(label, (3, 4)))
    one, other = (subclass_map(label, cells, book, grid, CLASSES, mode) for mode in ("consistent", "nearest"))
    np.testing.assert_array_equal(one, other)


@pytest.fixture
def files(tmp_path: Path) -> CellFiles:
    """Cells of seven images."""
    files, rng = CellFiles(tmp_path), np.random.default_rng(0)
    for number in range(7):
        shape = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
        label = rng.choice(np.array([0, 1, 2, 255], np.uint8), shape, p=[0.6, 0.3, 0.05, 0.05])
        files.write(f"day/{number}", Cells(rng.normal(size=(*shape, 4)).astype(np.float16), label))
    return files


NAMES = [(number, f"day/{number}") for number in range(7)]


def test_a_sample_has_the_smallest_keys_of_each_class(files: CellFiles) -> None:
    wanted = torch.tensor([20, 0, 1000])
    drawn = draw_cells(files, NAMES, wanted, seed=5)
    everything = []
    for number, name in NAMES:
        label = files.read(name).label.ravel()
        keys = pixel_keys(name, torch.arange(label.size), seed=5).tolist()
        everything += [(int(c), k, number, place) for place, (c, k) in enumerate(zip(label, keys, strict=True))]
    expected = [row for c in (0, 2) for row in sorted(r for r in everything if r[0] == c)[: int(wanted[c])]]
    rows = zip(drawn.group.tolist(), drawn.key.tolist(), drawn.image.tolist(), drawn.place.tolist(), strict=True)
    assert list(rows) == expected
    feature = gather_features(files, NAMES, drawn)
    for row, (_, _, number, place) in zip(feature, expected, strict=True):
        np.testing.assert_array_equal(row.numpy(), files.read(f"day/{number}").feature.reshape(-1, 4)[place])


def test_a_sample_does_not_depend_on_order_or_shards(files: CellFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    from evenseg.stages.cluster import sample

    wanted = torch.tensor([9, 8, 7])
    whole = draw_cells(files, NAMES, wanted, seed=0)
    parts = [draw_cells(files, NAMES[rank::3], wanted, seed=0) for rank in (2, 0, 1)]
    monkeypatch.setattr(sample, "gather_over_ranks", lambda own: parts)
    merged = draw_cells(files, NAMES[::-1], wanted, seed=0)
    assert all(torch.equal(one, other) for one, other in zip(whole, merged, strict=True))
    monkeypatch.undo()
    assert not torch.equal(whole.key, draw_cells(files, NAMES, wanted, seed=1).key)


def blobs(seed: int, count: int) -> Tensor:
    """Points around three places, of very unequal weight."""
    g = torch.Generator().manual_seed(seed)
    which = torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), count, replacement=True, generator=g)
    return torch.eye(3, 6)[which] * 4 + torch.randn(count, 6, generator=g)


def test_prices_are_corrected_until_all_cells_are_divided_evenly(tmp_path: Path) -> None:
    counts = torch.tensor([6, 1, 4])
    population = [blobs(0, 6000), blobs(1, 50), blobs(2, 4000)]
    feature, group = torch.cat(population), torch.arange(3).repeat_interleave(torch.tensor([6000, 50, 4000]))
    index = torch.cat([torch.arange(240), 6050 + torch.arange(160)])
    sample = Sample(feature[index].half(), group[index])
    book = fit_classes(tmp_path, sample, counts, balance="hard", iterations=20, seed=0)
    calls = []

    def count(book: Codebook, number: int) -> Tensor:
        calls.append(number)
        return torch.bincount(book.assign(feature, group), minlength=11)

    def variation(sizes: Tensor) -> Tensor:
        return torch.stack([part.double().std(correction=0) / part.double().mean() for part in sizes.split([6, 1, 4])])

    corrected = balance_prices(book, sample, count, tolerance=0.02, passes=8)
    assert variation(corrected.before).max() > 0.05  # a sample of 40 a subclass
    assert variation(corrected.sizes).max() <= 0.03
    assert calls == list(range(len(calls)))
    assert torch.equal(corrected.sizes, torch.bincount(corrected.codebook.assign(feature, group), minlength=11))
    calls.clear()
    left = balance_prices(book, sample, count, tolerance=1.0, passes=8)
    assert calls == [0]
    assert torch.equal(left.codebook.prices, book.prices)
    again = fit_classes(tmp_path, sample, counts, balance="hard", iterations=20, seed=1)  # the files are there
    assert torch.equal(again.centers, book.centers)


def test_numbers_of_subclasses() -> None:
    cells, told = torch.tensor([100, 10, 26]), []

    def choose(budget: int | None = 254, **options: object) -> list[int]:
        given = {"rule": "smallest", "rounding": "nearest", "counts": None, **options}
        return chosen_counts(cells, CLASSES.names, budget=budget, warn=told.append, **given).tolist()  # type: ignore

    assert choose() == [10, 1, 3]
    assert told == []
    assert sum(choose(8)) <= 8
    assert "subclasses as large as the smallest class would be 14; they are made larger, to be 8 at most" in told[0]
    assert choose(None) == [10, 1, 3]
    assert choose(8, rule="budget") == choose(8)
    assert choose(2, counts={"road": 42, "sign": 26}) == [42, 1, 26]
    assert choose(counts=[4, 2, 1]) == [4, 2, 1]
    cells[1] = 0
    assert choose(counts=[4, 1, 1]) == [4, 1, 1]
    assert told[-1] == "no cell shows car, which stays a single subclass without any"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": {"raod": 2}}, r"counts: there is no class 'raod' \(did you mean road\?\)"),
        ({"counts": [2, 3]}, "counts: lists 2 numbers for 3 classes"),
        ({"counts": {"car": 11}}, "counts: car has 10 cells, which cannot form 11 subclasses"),
        ({"counts": [1, 0, 1]}, "counts: car has 0 subclasses"),
        ({"budget": 2}, "budget: 2 subclasses are fewer than the 3 classes"),
        ({"rule": "budget", "budget": None}, "budget: the rule budget needs a number"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, object], message: str) -> None:
    given = {"rule": "smallest", "budget": 254, "rounding": "nearest", "counts": None, **options}
    with pytest.raises(InputError, match=message):
        chosen_counts(torch.tensor([100, 10, 26]), CLASSES.names, warn=lambda text: None, **given)  # type: ignore
    assert explicit_counts({}, CLASSES.names).tolist() == [1, 1, 1]


def test_the_report() -> None:
    report = ClusterReport(
        CLASSES.names,
        np.array([2, 1, 1]),
        np.array([9, 0, 0]),
        np.array([5, 4, 0, 0]),
        np.array([9, 0, 0, 0]),
        np.array([50, 40, 0, 0]),
        0.25,
        ["no cell shows car, sign"],
    )
    content = report.as_dict()
    assert content["of_classes"] == pytest.approx(
        {"number": 3, "balance_rate": 0.0, "variation": 2**0.5, "ratio": 1.0}, abs=1e-6
    )
    sizes = np.array([5, 4, 0, 0])
    rate = 1 - sizes.std() / np.array([9, 0, 0, 0]).std()  # Eq. 9
    assert content["of_subclasses"]["balance_rate"] == pytest.approx(rate)
    assert content["of_subclasses"]["ratio"] == 1.25
    assert content["classes"]["road"]["sizes"] == [5, 4]
    assert "| road | 9 | 2 | 4 | 5 | 0.111 |" in report.as_table()
    assert "pixels whose subclass is not of their class: 25.00%" in report.as_table()
