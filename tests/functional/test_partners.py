"""Random choices, most of them from evenly spread numbers: their frequencies are then exact."""

import itertools

import pytest
import torch

from evenseg.functional.partners import choose_class, choose_classes, choose_member, choose_partner

BELOW_ONE = 1 - 2.0**-53


def evenly(count):
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_every_member_is_equally_probable():
    member = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 0], dtype=torch.bool)
    chosen = choose_member(member.expand(400, -1), evenly(400))
    assert torch.bincount(chosen, minlength=9).tolist() == [0, 100, 0, 0, 100, 100, 0, 100, 0]
    assert chosen.dtype == torch.int64


def test_partners_contain_the_wanted_class():
    generator = torch.Generator().manual_seed(0)
    presence = torch.rand(6, 50, generator=generator) < 0.2
    presence[2] = False
    presence[3] = True
    presence[4] = False
    presence[4, 49] = True
    wanted = torch.randint(0, 6, (3000,), generator=generator)
    partner = choose_partner(presence, wanted, torch.rand(3000, generator=generator))
    for c, n in zip(wanted.tolist(), partner.tolist(), strict=True):
        assert n == -1 if c == 2 else presence[c, n]
    assert set(partner[wanted == 3].tolist()) == set(range(50))
    assert set(partner[wanted == 4].tolist()) == {49}


@pytest.mark.parametrize(("uniform", "end"), [(0.0, 0), (BELOW_ONE, 1), (1.0, 1)])
def test_the_ends_of_the_unit_interval_choose_the_first_and_the_last(uniform, end):
    member = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    draws = torch.full((3,), uniform, dtype=torch.float64)
    assert choose_member(member, draws).tolist() == [(1, 4)[end], (0, 5)[end], -1]
    assert choose_member(torch.ones(1, 20_001, dtype=torch.bool), draws[:1].float()).tolist() == [(0, 20_000)[end]]


def test_no_image_at_all():
    assert choose_partner(torch.zeros(3, 0, dtype=torch.bool), torch.tensor([0, 2]), torch.rand(2)).tolist() == [-1, -1]


def test_classes_are_chosen_in_proportion():
    probability = torch.tensor([0.0, 0.1, 0.0, 0.3, 0.6, 0.0])
    chosen = choose_class(probability, evenly(1000))
    assert torch.bincount(chosen, minlength=6).tolist() == [0, 100, 0, 300, 600, 0]
    assert torch.equal(choose_class(7 * probability, evenly(1000)), chosen)  # any scale


@pytest.mark.parametrize("scale", [1.0, 1.0000001, 3.3, 1e-30])
def test_a_class_without_probability_is_never_chosen(scale):
    probability = scale * torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0])
    ends = torch.tensor([0.0, 5e-324, BELOW_ONE, 1.0], dtype=torch.float64)
    assert choose_class(probability, ends).tolist() == [1, 1, 3, 3]
    only = torch.tensor([0.0, 0.0, scale])
    assert choose_class(only, ends).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_distinct_classes(count):
    probability = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.0, 0.2, 0.1, 0.0])
    uniform = torch.rand(500, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform[0], uniform[1], uniform[2] = 0.0, BELOW_ONE, 1.0
    chosen = choose_classes(probability, count, uniform)
    assert (chosen.sum(dim=1) == min(count, 4)).all()
    assert not chosen[:, probability == 0].any()


def test_distinct_classes_are_drawn_one_after_the_other_in_proportion():
    p = [0.5, 0.3, 0.15, 0.05]
    expected = {
        frozenset(pair): sum(p[a] * p[b] / (1 - p[a]) for a, b in itertools.permutations(pair))
        for pair in itertools.combinations(range(4), 2)
    }
    assert sum(expected.values()) == pytest.approx(1)
    draws = 40_000
    uniform = torch.rand(draws, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = choose_classes(torch.tensor(p), 2, uniform)
    for pair, probability in expected.items():
        found = int(chosen[:, list(pair)].all(dim=1).sum()) / draws
        assert abs(found - probability) < 4 * (probability * (1 - probability) / draws) ** 0.5


def test_with_replacement_a_class_drawn_twice_counts_once():
    probability = torch.tensor([0.7, 0.0, 0.3])
    uniform = torch.rand(300, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = choose_classes(probability, 4, uniform, replacement=True)
    for row, draws in zip(chosen, uniform, strict=True):
        assert set(row.nonzero().flatten().tolist()) == set(choose_class(probability, draws).tolist())
    assert set(chosen.sum(dim=1).tolist()) == {1, 2}


def test_as_many_random_numbers_as_are_used():
    probability = torch.tensor([0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="random numbers"):
        choose_classes(probability, 2, torch.rand(4, 2))
    with pytest.raises(ValueError, match="random numbers"):
        choose_classes(probability, 2, torch.rand(4, 3), replacement=True)


def test_a_device_is_never_waited_for():
    """Tensors without data: whatever reads a value, or has a shape that depends on one, raises."""
    probability, presence = torch.rand(5, device="meta"), torch.zeros(5, 9, device="meta", dtype=torch.bool)
    wanted = choose_class(probability, torch.rand(3, device="meta"))
    assert choose_partner(presence, wanted, torch.rand(3, device="meta")).shape == (3,)
    assert choose_classes(probability, 2, torch.rand(3, 5, device="meta")).shape == (3, 5)
    assert choose_classes(probability, 2, torch.rand(3, 2, device="meta"), replacement=True).shape == (3, 5)
