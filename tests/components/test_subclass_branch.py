"""The subclass branch on methods that work at the size of the image and mix images."""

from __future__ import annotations

import pytest
import torch

from evenseg.components.mixers import blend, images_of
from evenseg.components.subclass_branch import BRANCH, SubclassBranch
from evenseg.functional import random
from evenseg.networks.base import SegmentationNetwork
from evenseg.types import DataFacts, NetworkOutput, PseudoTarget, Step, StepViews

COUNTS, CLASSES, SIZE, CELLS = torch.tensor([2, 1, 1]), 3, 32, 8
STEP = Step(3, 10, random.generator(0), 0)
FACTS = DataFacts(("a", "b", "c"), torch.tensor([3, 2, 1]), 4, 4, 2, 2, None, COUNTS)


def component(**options):
    return SubclassBranch(**{"threshold": 0.6, **options}, data=FACTS)


def certain(label, classes):
    """Logits that are sure of a (B, h, w) label."""
    return 20.0 * torch.nn.functional.one_hot(label, classes).movedim(-1, 1).float()


def output(label, subclass):
    """What a network would say: classes at the size of the image, both at that of the cells."""
    cells = certain(label, CLASSES)
    logits = torch.nn.functional.interpolate(cells, (SIZE, SIZE), mode="bilinear", align_corners=True)
    return NetworkOutput(logits, coarse={"class": cells, BRANCH: certain(subclass, 4).requires_grad_()})


def target_of(out, valid=None):
    return PseudoTarget.from_logits(out.logits, torch.ones(2, SIZE, SIZE, dtype=torch.bool) if valid is None else valid)


def test_labels_of_the_image_are_vetoed_where_the_branch_says_otherwise():
    label = torch.zeros(2, CELLS, CELLS, dtype=torch.int64)
    subclass = torch.ones_like(label)
    subclass[:, :, 4:] = 3  # of class c
    weak = output(label, subclass)
    refined = component(gate="always").refine(target_of(weak), weak, STEP)
    confidence, _ = refined.hard()
    assert (confidence[:, :, :14] > 0.99).all()
    assert (confidence[:, :, 18:] < 0.01).all()
    assert (refined.maps[BRANCH][:, :, :14] == 1).all()
    assert (refined.maps[BRANCH][:, :, 18:] == 3).all()


def test_without_regularization_only_the_subclasses_are_noted():
    weak = output(torch.zeros(2, CELLS, CELLS, dtype=torch.int64), torch.full((2, CELLS, CELLS), 3))
    target = target_of(weak)
    refined = component(gate="always", regularization=False).refine(target, weak, STEP)
    assert torch.equal(refined.prob, target.prob)
    assert (refined.maps[BRANCH] == 3).all()


def test_subclasses_below_the_threshold_or_outside_of_the_image_are_not_taught():
    weak = output(torch.zeros(2, CELLS, CELLS, dtype=torch.int64), torch.zeros(2, CELLS, CELLS, dtype=torch.int64))
    unsure = weak.coarse[BRANCH].detach().clone()
    unsure[0] = 0.0
    weak = weak._replace(coarse={**weak.coarse, BRANCH: unsure})
    valid = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    valid[1, :, :10] = False
    maps = component().refine(target_of(weak, valid), weak, STEP).maps[BRANCH]
    assert (maps[0] == 255).all()
    assert (maps[1, :, :10] == 255).all()
    assert (maps[1, :, 10:] == 0).all()


def test_subclasses_are_mixed_with_the_images_they_belong_to():
    first, second = (
        PseudoTarget(torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4), maps={BRANCH: m})
        for m in (torch.zeros(1, 4, 4), torch.ones(1, 4, 4))
    )
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    assert torch.equal(blend(first, second, mask).maps[BRANCH], mask[:, 0].float())
    both = PseudoTarget(
        torch.rand(2, 3, 4, 4), torch.ones(2, 4, 4), maps={BRANCH: torch.arange(2)[:, None, None].expand(2, 4, 4)}
    )
    assert images_of(both, slice(1, 2)).maps[BRANCH].unique().tolist() == [1]


def test_losses_are_means_over_labeled_pixels_and_over_valid_cells():
    made = component(weight=2.0, unsupervised_weight=3.0)
    label = torch.zeros(2, SIZE, SIZE, dtype=torch.int64)
    out, strong = (
        output(torch.zeros(2, CELLS, CELLS, dtype=torch.int64), torch.zeros(2, CELLS, CELLS, dtype=torch.int64))
        for _ in range(2)
    )
    flat = torch.zeros(2, 4, CELLS, CELLS, requires_grad=True)  # log 4 of every subclass
    out = out._replace(coarse={**out.coarse, BRANCH: flat})
    strong = strong._replace(coarse={**strong.coarse, BRANCH: flat})
    kept = torch.full((2, SIZE, SIZE), 255)
    kept[0] = 1
    valid = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    valid[1, SIZE // 2 :] = False
    mixed = target_of(strong, valid)._replace(maps={BRANCH: kept})
    views = StepViews(label, out, strong, mixed, strong, mixed, labeled_maps={BRANCH: label})
    terms = made.losses(views, STEP)
    log4 = torch.tensor(4.0).log()
    torch.testing.assert_close(terms["subclass"], 2 * log4)
    torch.testing.assert_close(terms["subclass_self_training"], 2 * 3 * log4 * 8 / 12)  # of 1.5 images one is kept
    kept_only = component(weight=2.0, unsupervised_weight=3.0, normalize="kept").losses(views, STEP)
    torch.testing.assert_close(kept_only["subclass_self_training"], 2 * 3 * log4)
    without = made.losses(views._replace(labeled_maps={}), STEP)["subclass"]
    assert without == 0
    assert torch.autograd.grad(without, flat)[0] is not None


def test_at_the_decoders_size_the_cells_have_the_label_on_which_they_lie():
    made = component(supervised_at="decoder")
    label = torch.randint(0, 4, (2, CELLS, CELLS))
    weak = output(torch.zeros(2, CELLS, CELLS, dtype=torch.int64), label)
    pixels = label.repeat_interleave(4, 1).repeat_interleave(4, 2)
    views = StepViews(torch.zeros(2, SIZE, SIZE, dtype=torch.int64), weak, labeled_maps={BRANCH: pixels})
    assert made.losses(views, STEP)["subclass"] < 1e-6


@pytest.mark.parametrize("share", ["low", "none", "high"])
def test_the_branch_has_a_logit_for_each_subclass(share):
    network = SegmentationNetwork("fpn", "tu-test_resnet", num_classes=CLASSES)
    component(share=share).attach(network)
    assert network(torch.rand(2, 3, 32, 32)).coarse[BRANCH].shape[1] == 4


def test_counts_can_be_given_in_the_place_of_data():
    assert component(counts=[1, 2, 3]).parent.tolist() == [0, 1, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="no subclasses"):
        SubclassBranch(data=FACTS._replace(subclass_counts=None))
