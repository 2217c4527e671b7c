"""The contrast component: whose pixels are anchors and keys, of which network, and when."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evenseg.components.pixel_contrast import HEAD, PixelContrast
from evenseg.functional import random
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import NetworkOutput, PseudoTarget, Step, StepViews

CLASSES, SIZE, CELLS, WIDTH = 3, 32, 8, 6
STEP = Step(3, 10, random.generator(0), 0, 4, 4)


@pytest.fixture(scope="module")
def network():
    return SegmentationNetwork("linknet", "tu-test_efficientnet", num_classes=CLASSES)


def component(**options):
    made = PixelContrast(**{"weight": 1.0, "anchors": 4, **options})
    made.num_classes = CLASSES
    return made


def output(seed, *, gradient=True):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, CLASSES, SIZE, SIZE, generator=g)
    head = torch.randn(2, WIDTH, CELLS, CELLS, generator=g)
    return NetworkOutput(logits, heads={HEAD: head.requires_grad_(gradient)})


def target(seed):
    g = torch.Generator().manual_seed(seed)
    prob = torch.randn(2, CLASSES, SIZE, SIZE, generator=g).mul(3).softmax(1)
    valid = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    valid[:, :4] = False
    return PseudoTarget(prob, (torch.rand(2, SIZE, SIZE, generator=g) < 0.7).float(), valid)


@pytest.fixture
def views():
    label = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    label[0, :8] = 255
    pseudo = target(1)
    return StepViews(label, output(2), output(3, gradient=False), pseudo, output(4), pseudo)


def loss_of(made, views, step=STEP):
    return made.losses(views, step)["contrast"]


def reached(loss, views):
    """How many cells of the labeled and of the strong embeddings are anchors."""
    heads = [views.labeled.heads[HEAD], views.strong.heads[HEAD]]
    gradients = torch.autograd.grad(loss, heads, allow_unused=True)
    return [0 if g is None else int((g != 0).any(1).sum()) for g in gradients]


@pytest.mark.parametrize(("source", "cells"), [("both", (24, 24)), ("labeled", (24, 0)), ("unlabeled", (0, 24))])
def test_source_says_whose_pixels_are_anchors(views, source, cells):
    assert reached(loss_of(component(source=source), views), views) == list(cells)


def test_anchors_are_confident_pixels_inside_the_images(views):
    loss = loss_of(component(anchors=1000, small_groups="variable", source="unlabeled"), views)
    (gradient,) = torch.autograd.grad(loss, views.strong.heads[HEAD])
    used = ((views.target.weight > 0) & views.target.valid)[:, :: SIZE // CELLS, :: SIZE // CELLS]
    assert 0 < used.sum() < used.numel()
    assert torch.equal((gradient != 0).any(1), used)


def test_everything_against_the_formula(views):
    """All positions as anchors, so that nothing is random: Eq. 5 over both sets."""
    made = component(anchors=1000, small_groups="variable", weight=0.3, base_temperature=0.1, temperature=0.15)
    cells = slice(None, None, SIZE // CELLS)
    pseudo = views.target.prob.max(1).indices.where((views.target.weight > 0) & views.target.valid, 255)
    label = torch.cat([each[:, cells, cells].flatten() for each in (views.label, pseudo)])
    kept = label < CLASSES
    anchor, key = (
        F.normalize(torch.cat([each.heads[HEAD].permute(0, 2, 3, 1).reshape(-1, WIDTH) for each in pair]), dim=1)[kept]
        for pair in ((views.labeled, views.strong), (views.labeled, views.weak))
    )
    label = label[kept]
    e = (anchor @ key.T / 0.15).exp()
    same = label[:, None] == label
    away = (e * ~same).sum(1, keepdim=True)
    positive = same & ~torch.eye(len(label), dtype=torch.bool)
    expected = (-(e / (e + away)).log() * positive).sum(1) / positive.sum(1)
    assert loss_of(made, views).item() == pytest.approx(0.3 * 1.5 * expected.mean().item(), rel=1e-5)
    self_too = (-(e / (e + away)).log() * same).sum(1) / same.sum(1)
    labeled = int((views.label[:, cells, cells] < CLASSES).sum())  # the student's own embedding is never a positive
    expected = torch.cat([expected[:labeled], self_too[labeled:]])
    made.include_self = True
    assert loss_of(made, views).item() == pytest.approx(0.3 * 1.5 * expected.mean().item(), rel=1e-5)


def test_keys_are_the_teachers_of_unlabeled_and_of_labeled_images_where_it_saw_them(views):
    made = component()
    before = loss_of(made, views)
    assert loss_of(made, views._replace(weak=output(9))) != before
    assert loss_of(made, views._replace(labeled_teacher=views.labeled)).item() == before.item()
    assert loss_of(made, views._replace(labeled_teacher=output(9))) != before


def test_half_of_the_anchors_are_hard(views):
    cells = slice(None, None, SIZE // CELLS)
    for sampling in ("segmentation", "random"):
        counted = 0
        for index in range(20):
            made = component(anchors=8, source="labeled", sampling=sampling, small_groups="variable")
            # the student is right but for a few cells
            wrong = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
            wrong[:, 16:20, :16] = True
            seen = torch.where(wrong, (views.label + 1) % CLASSES, views.label).clamp(max=CLASSES - 1)
            logits = F.one_hot(seen, CLASSES).permute(0, 3, 1, 2).float()[:, :, cells, cells]
            labeled = views.labeled._replace(logits=logits)
            loss = loss_of(made, views._replace(labeled=labeled), STEP._replace(index=index))
            (gradient,) = torch.autograd.grad(loss, labeled.heads[HEAD])
            counted += int((gradient != 0).any(1)[:, 4, :4].sum())
        # 8 wrong cells, at most 4 of a class and image: all are taken; or 8 in 20 by chance
        assert counted == 20 * 8 if sampling == "segmentation" else 20 * 2 < counted < 20 * 6


def test_skipped_classes_take_no_part(views):
    made = component(anchors=1000, small_groups="variable", source="labeled", skip_classes=[1])
    (gradient,) = torch.autograd.grad(loss_of(made, views), views.labeled.heads[HEAD])
    label = views.label[:, :: SIZE // CELLS, :: SIZE // CELLS]
    assert torch.equal((gradient != 0).any(1), (label == 0) | (label == 2))


def test_mixed_images_have_anchors_in_the_mixture_and_keys_in_the_weak_view(views):
    other = target(7)
    mixed = views._replace(mixed=other)
    made = component(anchors=1000, small_groups="variable", source="unlabeled")
    (gradient,) = torch.autograd.grad(loss_of(made, mixed), views.strong.heads[HEAD])
    used = ((other.weight > 0) & other.valid)[:, :: SIZE // CELLS, :: SIZE // CELLS]
    assert torch.equal((gradient != 0).any(1), used)
    assert loss_of(made, mixed._replace(target=target(8))) != loss_of(made, mixed)


def test_supervised_steps_contrast_nothing_unless_asked(views):
    alone = StepViews(views.label, views.labeled)
    loss = loss_of(component(), alone)
    assert loss == 0
    (gradient,) = torch.autograd.grad(loss, views.labeled.heads[HEAD])
    assert (gradient == 0).all()
    assert loss_of(component(warmup=True, source="unlabeled"), alone) > 0
    one_side, both = component(warmup=True), component(warmup=True, gather=False)
    assert loss_of(one_side, alone).item() == loss_of(both, alone).item()
    ours, theirs = (
        torch.autograd.grad(loss_of(made, alone), alone.labeled.heads[HEAD])[0] for made in (one_side, both)
    )
    assert (ours - theirs).abs().max() > 1e-3


def test_the_weight_rises(views):
    made = component(ramp_steps=4, ramp_start=3)
    full = loss_of(made, views, STEP._replace(index=7))
    factor = loss_of(made, views) / loss_of(component(), views)
    assert factor.item() == pytest.approx(0.00674, abs=1e-5)
    assert full.item() == pytest.approx(loss_of(component(), views, STEP._replace(index=7)).item())


def test_draws_follow_the_slots(views):
    made = component()
    assert loss_of(made, views).item() == loss_of(made, views).item()
    assert loss_of(made, views, STEP._replace(labeled_slot=6)) != loss_of(made, views)
    assert loss_of(made, views, STEP._replace(index=5)) != loss_of(made, views)


def test_the_head_sees_the_last_feature_and_keeps_its_resolution(network):
    made = PixelContrast(dimension=7)
    made.attach(network)
    head = network(torch.rand(2, 3, 64, 96)).heads[HEAD]
    assert head.shape == (2, 7, 2, 3)
    weights = [value for name, value in network.heads[HEAD].named_parameters() if name.endswith("weight")]
    assert all(weight.std() < 0.02 for weight in weights)
    assert made.num_classes == CLASSES
