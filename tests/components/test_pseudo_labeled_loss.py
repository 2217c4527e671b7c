"""The loss on pseudo-labeled images, against a transcription of its formula."""

from __future__ import annotations

import math

import pytest
import torch

from evenseg.components.pseudo_labeled_loss import PseudoLabeledLoss
from evenseg.components.supervised_loss import OHEM, ClassWeighted, CrossEntropy, Focal
from evenseg.types import NetworkOutput

from ..contract.conftest import SIZE, make_batch, make_method, make_step


def outputs(heads: int = 1) -> tuple[NetworkOutput, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 3, 4, 5, generator=generator).requires_grad_() for _ in range(heads)]
    label = torch.randint(0, 3, (2, 4, 5), generator=generator)
    label[0, :3] = 255
    return NetworkOutput(logits[0], {}, {"auxiliary": logits[1]} if heads > 1 else {}), label


def by_hand(logits: torch.Tensor, label: torch.Tensor, power: float) -> tuple[float, torch.Tensor]:
    """Mean of p^power * -log p over pixels with a label, and its gradient with p^power held."""
    total, gradient = 0.0, torch.zeros(logits.shape, dtype=torch.float64)
    places = torch.nonzero(label != 255).tolist()
    for b, y, x in places:
        prob = logits[b, :, y, x].detach().double().softmax(0)
        c = int(label[b, y, x])
        weight = float(prob[c]) ** power
        total += weight * -math.log(prob[c]) / len(places)
        gradient[b, :, y, x] = weight * (prob - torch.nn.functional.one_hot(torch.tensor(c), 3)) / len(places)
    return total, gradient


@pytest.mark.parametrize("power", [0.0, 1.0, 5.0])
def test_pixels_weigh_by_the_probability_of_their_label(power):
    output, label = outputs()
    loss = PseudoLabeledLoss(weight=0.5, power=power)(output, label, CrossEntropy())
    loss.backward()
    expected, gradient = by_hand(output.logits, label, power)
    assert loss.item() == pytest.approx(0.5 * expected, rel=1e-5)
    torch.testing.assert_close(output.logits.grad.double(), 0.5 * gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_the_auxiliary_head_counts_two_fifths(power):
    output, label = outputs(heads=2)
    loss = PseudoLabeledLoss(power=power)(output, label, CrossEntropy())
    expected = by_hand(output.logits, label, power)[0] + 0.4 * by_hand(output.heads["auxiliary"], label, power)[0]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("power", [0.0, 2.0])
@pytest.mark.parametrize("supervised_loss", [CrossEntropy(), OHEM(), Focal(), ClassWeighted(weights=[1.0, 2.0, 3.0])])
def test_without_a_label_the_loss_is_a_connected_zero(power, supervised_loss):
    output, label = outputs()
    loss = PseudoLabeledLoss(power=power)(output, torch.full_like(label, 255), supervised_loss)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(output.logits.grad, torch.zeros_like(output.logits))


def test_where_nothing_is_pseudo_labeled_training_is_supervised():
    """DARS with a labeling ratio of 0."""
    batch = make_batch(make_method({"name": "supervised"}))
    nothing = batch.labeled._replace(label=torch.full_like(batch.labeled.label, 255), paste=None)
    gradients = []
    for each in (batch, batch._replace(pseudo_labeled=nothing)):
        method = make_method({"name": "supervised"})
        sum(method(each, make_step(0)).losses.values()).backward()
        gradients.append([parameter.grad for parameter in method.student.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["supervised", "fixmatch", "ael"])
def test_any_method_adds_it_and_is_else_the_same(name):
    method, other = make_method({"name": name}), make_method({"name": name})
    batch = make_batch(method)
    pseudo = batch.labeled._replace(image=torch.rand(4, 3, SIZE, SIZE), paste=None)
    plain = method(batch, make_step(0))
    losses = other(batch._replace(pseudo_labeled=pseudo), make_step(0)).losses
    assert {key: losses[key].item() for key in plain.losses} == {k: v.item() for k, v in plain.losses.items()}
    assert losses.keys() - plain.losses.keys() == {"pseudo_labeled"}
    expected = method.supervised_loss(method.student(pseudo.image).logits, pseudo.label)  # batch norm: of this half
    assert losses["pseudo_labeled"].item() == expected.item()
