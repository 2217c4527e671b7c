"""Multi-Entropy Sampling against a plain loop, and what it promises (Eq. 9-11)."""

from __future__ import annotations

import math
import random

import pytest
import torch

from evenseg.functional.entropy_zones import borrow, entropy_zones, largest_remainder, zone_shares
from evenseg.functional.multi_entropy import (
    Sampling,
    class_ratio,
    multi_entropy_sample,
    sampling_quota,
    sampling_weight,
)

from .mes_loop import borrowed, take_of, zone_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, seed=0):
    return torch.randint(1 << 31, (count,), generator=generator(seed))


def odd_case(dice):
    """Entropies, labels, quota, zones and alpha of one of many kinds: equal, few, steps, missing, ignored, too many."""
    classes, size = dice.randint(1, 5), dice.choice([0, 1, 2, 5, 20, 60, 150])
    kind = dice.choice(["smooth", "smooth", "steps", "equal", "two", "skewed", "zero"])
    draw = {
        "smooth": lambda: dice.uniform(0, 2.9),
        "steps": lambda: dice.randint(0, 6) / 4,
        "equal": lambda: 0.7,
        "two": lambda: dice.choice([0.1, 2.0]),
        "skewed": lambda: dice.random() ** 8,
        "zero": lambda: 0.0,
    }[kind]
    entropy = torch.tensor([draw() for _ in range(size)], dtype=torch.float32)
    label = torch.tensor([dice.choice([*range(classes), 255]) for _ in range(size)], dtype=torch.int64)
    quota = torch.tensor([dice.choice([0, 1, 3, 10, 40, 1000]) for _ in range(classes)])
    return entropy, label, quota, dice.choice([1, 2, 3, 5, 8]), dice.choice([0.0, 0.1, 1.0, 100.0])


def test_a_thousand_cases_are_those_of_the_loop():
    dice = random.Random(0)
    for case in range(1000):
        entropy, label, quota, zones, alpha = odd_case(dice)
        empty = dice.choice(["skip", "midpoint"])
        drawn = multi_entropy_sample(
            entropy, label, quota, zones=zones, alpha=alpha, generator=generator(case), empty_zone=empty
        )
        assert len(set(drawn.tolist())) == len(drawn)
        assert all(label[i] != 255 for i in drawn.tolist())
        for c, wanted in enumerate(quota.tolist()):
            members = [i for i, own in enumerate(label.tolist()) if own == c]
            chosen = [i for i in drawn.tolist() if label[i] == c]
            assert len(chosen) == min(wanted, len(members)), case
            if not members:
                continue
            values = [entropy[i].item() for i in members]
            # a mean of 0 and an alpha of 0 are a share without bound, which is a large one
            taken, cells, _ = take_of(values, wanted, zones, max(alpha, 1e-12), empty == "midpoint")
            got = [sum(members[i] in chosen for i in cell) for cell in cells]
            assert got == taken, (case, c, values, wanted)


def test_labels_outside_of_the_classes_and_entropies_without_a_value_are_never_drawn():
    label = torch.tensor([0, 255, 1, -1, 2, 1])
    entropy = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, math.nan])
    drawn = multi_entropy_sample(entropy, label, torch.tensor([5, 5]), generator=generator())
    assert sorted(drawn.tolist()) == [0, 2]


def test_wrong_shapes_and_options_are_refused():
    with pytest.raises(ValueError, match="must be"):
        multi_entropy_sample(torch.rand(3), torch.zeros(4), torch.tensor([1]), generator=generator())
    with pytest.raises(ValueError, match="zones"):
        multi_entropy_sample(torch.rand(3), torch.zeros(3), torch.tensor([1]), zones=0, generator=generator())


def test_every_pixel_is_in_one_zone_the_smallest_in_the_first_and_the_largest_in_the_last():
    entropy, label = torch.rand(500, generator=generator()), torch.randint(0, 3, (500,), generator=generator(1))
    zones = entropy_zones(entropy, label, 4, zones=5)
    for c in range(3):
        own, zone = entropy[label == c], zones.cell[label == c] - 5 * c
        assert zone[own.argmin()] == 0
        assert zone[own.argmax()] == 4
        low, high = own.min().item(), own.max().item()
        assert zone.tolist() == [zone_of(e, low, high, 5) for e in own.tolist()]
        for z in range(5):
            assert zones.size[c, z] == (zone == z).sum()
            assert zones.mean[c, z].item() == pytest.approx(own[zone == z].double().mean().item(), abs=1e-12)
    assert zones.size[3].sum() == 0


def test_equal_entropies_are_one_zone():
    zones = entropy_zones(torch.full((7,), 1.3), torch.zeros(7, dtype=torch.int64), 1)
    assert zones.size.tolist() == [[7, 0, 0, 0, 0]]
    assert torch.equal(zone_shares(zones), torch.tensor([[1.0, 0, 0, 0, 0]], dtype=torch.float64))


def test_quantile_zones_have_equally_many_pixels():
    entropy, label = torch.rand(43, generator=generator()) ** 4, torch.arange(43) % 2
    zones = entropy_zones(entropy, label, 2, zones=4, width="quantile")
    assert zones.size.amax() - zones.size.amin() <= 1
    for c in range(2):
        own, zone = entropy[label == c], zones.cell[label == c] - 4 * c
        assert all(own[zone == z].max() <= own[zone == z + 1].min() for z in range(3))


def test_a_large_alpha_makes_all_zones_equal():
    entropy = torch.rand(5000, generator=generator())
    zones = entropy_zones(entropy, torch.zeros(5000, dtype=torch.int64), 1)
    assert largest_remainder(zone_shares(zones, alpha=1e9), torch.tensor([100])).tolist() == [[20] * 5]


def test_whole_numbers_sum_to_the_total():
    share = torch.rand(50, 5, generator=generator(), dtype=torch.float64)
    share = share / share.sum(1, keepdim=True)
    total = torch.arange(50) * 7
    quota = largest_remainder(share, total)
    assert torch.equal(quota.sum(1), total)
    assert ((quota - share * total[:, None]).abs() < 1).all()
    assert largest_remainder(torch.zeros(1, 5), torch.tensor([3])).sum() == 0


def test_borrowing_is_that_of_the_loop_and_near_zones_come_first():
    quota, count = (
        torch.randint(0, 9, (600, 5), generator=generator()),
        torch.randint(0, 9, (600, 5), generator=generator(1)),
    )
    taken = borrow(quota, count)
    assert (taken <= count).all()
    assert torch.equal(taken.sum(1), torch.minimum(quota.sum(1), count.sum(1)))
    for row in range(600):
        assert taken[row].tolist() == borrowed(quota[row].tolist(), count[row].tolist())
    assert borrow(torch.tensor([[0, 0, 4, 0, 0]]), torch.tensor([[9, 1, 0, 2, 9]])).tolist() == [[1, 1, 0, 2, 0]]


def test_the_same_seed_draws_the_same_and_a_permutation_the_same_numbers():
    entropy, label = torch.rand(300, generator=generator()), torch.randint(0, 4, (300,), generator=generator(1))
    quota = torch.tensor([9, 20, 3, 50])
    one = multi_entropy_sample(entropy, label, quota, generator=generator(2))
    assert torch.equal(one, multi_entropy_sample(entropy, label, quota, generator=generator(2)))
    order = torch.randperm(300, generator=generator(3))
    other = multi_entropy_sample(entropy[order], label[order], quota, generator=generator(2))
    cell = entropy_zones(entropy, label, 4).cell
    assert torch.equal(torch.bincount(cell[one], minlength=20), torch.bincount(cell[order[other]], minlength=20))


@pytest.mark.parametrize("strategy", ["multi_entropy", "quantity", "confidence", "all"])
@pytest.mark.parametrize("estimator", ["sample", "weighted"])
def test_weights_sum_to_one_over_each_class(strategy, estimator):
    entropy, label = torch.rand(400, generator=generator()), torch.randint(0, 3, (400,), generator=generator(1))
    label[:9] = 255
    quota = torch.tensor([30, 0, 5])
    weight = sampling_weight(
        entropy,
        label,
        4,
        torch.cat([quota, torch.tensor([7])]),
        noise(400),
        confidence=1 - entropy / 2,
        sampling=Sampling(strategy, estimator),
    )
    assert (weight[:9] == 0).all()
    sums = torch.zeros(4).scatter_add(0, label.clamp(max=3), weight)
    expected = [1, float(strategy == "all" or estimator == "weighted"), 1, 0]
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float32))
    if estimator == "sample" and strategy != "all":
        assert [(weight[label == c] > 0).sum().item() for c in range(3)] == quota.tolist()


def test_the_form_of_a_step_draws_as_many_of_each_zone_as_the_indices():
    entropy, label = torch.rand(400, generator=generator()) ** 3, torch.randint(0, 3, (400,), generator=generator(1))
    quota = torch.tensor([30, 90, 5])
    drawn = multi_entropy_sample(entropy, label, quota, generator=generator())
    weight = sampling_weight(entropy, label, 3, quota, noise(400))
    cell = entropy_zones(entropy, label, 3).cell
    assert torch.equal(torch.bincount(cell[drawn], minlength=15), torch.bincount(cell[weight > 0], minlength=15))


@pytest.mark.parametrize("strategy", ["multi_entropy", "quantity"])
def test_the_expectation_is_that_of_many_samples(strategy):
    entropy, label = torch.rand(2000, generator=generator()) * 2, torch.zeros(2000, dtype=torch.int64)
    value, quota = entropy.sin(), torch.tensor([100])
    expected = sampling_weight(entropy, label, 1, quota, noise(2000), sampling=Sampling(strategy, "weighted"))
    means = [
        (sampling_weight(entropy, label, 1, quota, noise(2000, s), sampling=Sampling(strategy)) * value).sum().item()
        for s in range(200)
    ]
    # whole numbers of pixels of each zone are within half a pixel of the shares
    assert sum(means) / 200 == pytest.approx((expected * value).sum().item(), abs=0.006)


def test_confidence_prefers_doubtful_pixels_in_proportion():
    doubt = torch.tensor([0.1, 0.2, 0.7, 0.0])
    counts = torch.zeros(4)
    for seed in range(2000):
        counts += (
            sampling_weight(
                torch.rand(4),
                torch.zeros(4, dtype=torch.int64),
                1,
                torch.tensor([1]),
                noise(4, seed),
                confidence=1 - doubt,
                sampling=Sampling("confidence"),
            )
            > 0
        )
    torch.testing.assert_close(counts / 2000, doubt, atol=0.03, rtol=0)


def test_ratio_times_frequency_is_the_same_for_all_classes():
    frequency = torch.tensor([1000, 0, 50, 20])
    ratio = class_ratio(frequency)
    assert ratio.tolist() == [20 / 1000, 0, 20 / 50, 1]
    torch.testing.assert_close(class_ratio(frequency, "sqrt_inverse"), ratio.sqrt())
    assert class_ratio(frequency, "none").tolist() == [1, 0, 1, 1]
    assert class_ratio(torch.zeros(3)).tolist() == [0, 0, 0]


def test_quota_is_the_rounded_share_within_bounds():
    ratio, count = torch.tensor([0.02, 0.4, 1.0, 0.0, 0.3]).double(), torch.tensor([1000, 9, 7, 3, 0])
    assert sampling_quota(ratio, count).tolist() == [20, 4, 7, 1, 0]
    assert sampling_quota(ratio, count, max_fraction=0.5).tolist() == [20, 4, 4, 1, 0]
    assert sampling_quota(ratio, count, min_per_class=5).tolist() == [20, 5, 7, 3, 0]
    assert sampling_quota(ratio, count, rule="batch_min").tolist() == [3, 3, 3, 3, 0]
    assert sampling_quota(ratio, torch.zeros(5, dtype=torch.int64), rule="batch_min").tolist() == [0] * 5
