"""What networks give out, divided among the images it belongs to."""

import torch

from evenseg.types import NetworkOutput


def test_a_split_output_is_that_of_the_images_with_their_gradients():
    whole = {name: torch.randn(5, k, 4, 6, requires_grad=True) for name, k in (("logits", 3), ("head", 2), ("low", 7))}
    output = NetworkOutput(whole["logits"], {"low": whole["low"]}, {"head": whole["head"]})
    first, second = output.split(2)
    for name, value, other in (
        ("logits", first.logits, second.logits),
        ("head", first.heads["head"], second.heads["head"]),
        ("low", first.features["low"], second.features["low"]),
    ):
        assert torch.equal(value, whole[name][:2])
        assert torch.equal(other, whole[name][2:])
        (value.sum() + 3 * other.sum()).backward()
        assert whole[name].grad.flatten(1).mean(dim=1).tolist() == [1, 1, 3, 3, 3]
