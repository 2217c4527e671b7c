import torch

from evenseg.functional.random import generator, key, slot_uniform


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
