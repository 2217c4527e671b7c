import torch

from evenseg.functional.random import _mix, generator, key, slot_noise, slot_uniform


def test_draws_belong_to_their_slot():
    whole = slot_uniform(3, 10, 0, 8, 5, stream="x")
    parts = [slot_uniform(3, 10, first, 2, 5, stream="x") for first in (0, 2, 4, 6)]
    assert torch.equal(whole, torch.cat(parts))


def test_keys_differ_in_every_part():
    base = slot_uniform(3, 10, 0, 4, 5, stream="x")
    for other in (
        slot_uniform(4, 10, 0, 4, 5, stream="x"),
        slot_uniform(3, 11, 0, 4, 5, stream="x"),
        slot_uniform(3, 10, 4, 4, 5, stream="x"),
        slot_uniform(3, 10, 0, 4, 5, stream="y"),
    ):
        assert not torch.isclose(base, other).any()
    assert key(1, 2) != key(2, 1)
    assert key("a", "b") != key("b", "a")


def test_draws_are_uniform():
    values = slot_uniform(0, 0, 0, 2000, 10, stream="uniform")
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.histc(values.float(), bins=20, min=0, max=1)
    # 1000 expected in each bin, standard deviation 31: five of them
    assert (counts - 1000).abs().max() < 160
    correlation = torch.corrcoef(values.T) - torch.eye(10)
    assert correlation.abs().max() < 0.12  # five standard errors


def test_generators_are_pure_functions_of_their_key():
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))
    assert not torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(2, "a")))


def test_noise_is_the_hash_of_slot_and_column():
    got = slot_noise(3, 10, 5, 2, 7, stream="x")
    assert got.dtype == torch.int64
    for row in range(2):
        state = _mix(key(3, "x", 10) ^ (5 + row)) >> 1
        for column in range(7):
            # SplitMix64's finaliser, whose first step is the addition that `_mix` does and this leaves out
            expected = _mix((state ^ column) - 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 33
            assert got[row, column] == expected


def test_noise_belongs_to_its_slot_and_is_uniform():
    whole = slot_noise(0, 1, 0, 50, 2000, stream="x")
    assert torch.equal(whole[20:], slot_noise(0, 1, 20, 30, 2000, stream="x"))
    assert whole.min() >= 0
    assert whole.max() < 2**31
    counts = torch.histc(whole.double(), bins=20, min=0, max=2.0**31)
    assert (counts - 5000).abs().max() < 350  # five standard deviations
    assert torch.corrcoef(whole[:, :20].double().T).fill_diagonal_(0).abs().max() < 0.75  # 1 / sqrt(50) = 0.14
    assert torch.corrcoef(whole[:20].double()).fill_diagonal_(0).abs().max() < 0.12
    assert not torch.equal(whole, slot_noise(0, 2, 0, 50, 2000, stream="x"))
