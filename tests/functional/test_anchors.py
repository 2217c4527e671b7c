"""Anchors of the segmentation-aware sampler: counts, labels, no repeats."""

import pytest
import torch

from evenseg.functional.anchors import sample_anchors


def draw(label, hard, *, seed=0, **options):
    noise = torch.randint(0, 2**31 - 1, label.shape, generator=torch.Generator().manual_seed(seed))
    return sample_anchors(label, hard, noise, num_classes=3, **options)


def one_class(hard, easy):
    """An image of 60 positions, of which so many are of class 1, shuffled; the rest is ignored."""
    label = torch.full((1, 60), 255)
    label[0, : hard + easy] = 1
    wrong = (torch.arange(60) < hard)[None]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(hard))
    return label[:, order], wrong[:, order]


@pytest.mark.parametrize(
    ("hard", "easy", "counts"),
    [
        (15, 30, (10, 10)),
        (3, 30, (3, 17)),
        (30, 4, (16, 4)),
        (5, 15, (0, 0)),
        (5, 16, (5, 15)),
        (21, 0, (20, 0)),
        (0, 21, (0, 20)),
        (0, 0, (0, 0)),
    ],
)
def test_half_is_hard_and_the_scarcer_side_is_taken_whole(hard, easy, counts):
    label, wrong = one_class(hard, easy)
    anchors = draw(label, wrong)
    chosen = anchors.position[anchors.label >= 0]
    assert len(set(chosen.tolist())) == len(chosen) == sum(counts)
    assert (label[0, chosen] == 1).all()
    assert (int(wrong[0, chosen].sum()), int((~wrong[0, chosen]).sum())) == counts


@pytest.mark.parametrize(("hard", "easy"), [(5, 15), (2, 1), (20, 0), (30, 30)])
def test_variable_takes_all_of_small_groups(hard, easy):
    label, wrong = one_class(hard, easy)
    anchors = draw(label, wrong, small_groups="variable")
    chosen = anchors.position[anchors.label >= 0]
    assert len(set(chosen.tolist())) == len(chosen) == min(20, hard + easy)
    assert (label[0, chosen] == 1).all()


def test_every_position_is_of_its_class_and_image():
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (3, 200), generator=g)
    label[label == 3] = 255
    label[1] = 255
    hard = torch.rand(3, 200, generator=g) < 0.3
    anchors = draw(label, hard, quota=7)
    assert anchors.position.shape == anchors.label.shape == (3, 21)
    assert (anchors.label[1] == -1).all()
    for image in (0, 2):
        assert torch.equal(label[image, anchors.position[image]], anchors.label[image])
        assert sorted(anchors.label[image].tolist()) == sorted([0, 1, 2] * 7)
        assert len(set(anchors.position[image].tolist())) == 21
        assert hard[image, anchors.position[image]].sum() == 9  # half of 7, rounded down, in three classes


def test_without_hard_positions_the_choice_is_random():
    label, wrong = one_class(30, 30)
    picked = torch.zeros(60)
    for seed in range(300):
        anchors = draw(label, None, seed=seed)
        picked[anchors.position[anchors.label >= 0]] += 1
    assert picked.sum() == 300 * 20
    assert picked.min() > 60  # 100 on average
    assert picked.max() < 140
    assert picked[wrong[0]].sum() == pytest.approx(3000, rel=0.06)


def test_classes_with_most_positions_come_first_where_there_are_too_many():
    label = torch.tensor([[0] * 30 + [1] * 50 + [2] * 25])
    anchors = draw(label, None, max_classes=2)
    assert set(anchors.label[0].tolist()) == {0, 1}
    assert anchors.position.shape == (1, 40)


def test_choices_of_an_image_do_not_depend_on_the_others():
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (4, 120), generator=g)
    noise = torch.randint(0, 2**31 - 1, (4, 120), generator=g)
    whole = sample_anchors(label, None, noise, num_classes=3, quota=5)
    part = sample_anchors(label[2:], None, noise[2:], num_classes=3, quota=5)
    assert torch.equal(part.position, whole.position[2:])
    assert torch.equal(part.label, whole.label[2:])
