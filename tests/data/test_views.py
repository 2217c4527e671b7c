from __future__ import annotations

import pytest
import torch

from evenseg.config import DataConfig, StrongConfig
from evenseg.data.geometry import WeakSpec
from evenseg.data.randaugment import OPERATIONS, USUAL, draw_operations, randaugment_view
from evenseg.data.views import strong_views, weak_spec


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("strength", [-0.6, 0.3])
def test_operations_leave_pixels_in_place(name: str, strength: float) -> None:
    image = torch.rand(3, 12, 14)
    view = OPERATIONS[name](image, strength)
    assert view.shape == image.shape
    for dims in ((1,), (2,)):
        mirrored = OPERATIONS[name](image.flip(dims), strength)
        torch.testing.assert_close(mirrored, view.flip(dims), rtol=0, atol=1e-5)


def test_operations_change_something() -> None:
    image = 0.3 + 0.4 * torch.rand(3, 12, 14)
    for name, operation in OPERATIONS.items():
        changed = not torch.allclose(operation(image, 0.7), image)
        assert changed == (name != "identity")


def test_randaugment_draws_belong_to_global_slots_and_use_everything() -> None:
    config = StrongConfig(policy="randaugment", operations=3, magnitude=0.4)
    whole = draw_operations(config, 0, 2, 0, 200, 0)
    assert whole[50:70] == draw_operations(config, 0, 2, 50, 20, 0)
    assert whole != draw_operations(config, 0, 2, 0, 200, 1)
    assert all(len(each) == 3 for each in whole)
    drawn = [operation for each in whole for operation in each]
    assert {operation.name for operation in drawn} == set(USUAL)
    assert {operation.strength for operation in drawn} == {0.4, -0.4}


def test_randaugment_draws_from_a_list_at_a_strength_of_its_own_with_a_probability() -> None:
    names = ["invert", "solarize_add"]
    options = {"operation_names": names, "operation_probability": 0.5, "magnitude": 0.9, "magnitude_std": 0.05}
    config = StrongConfig.model_validate({"policy": "randaugment", "both_ways": False, **options})
    whole = draw_operations(config, 0, 2, 0, 500, 0)
    assert whole[50:70] == draw_operations(config, 0, 2, 50, 20, 0)
    drawn = [operation for each in whole for operation in each]
    assert len(drawn) == pytest.approx(500, abs=80)  # two of each image, half of them applied
    assert {operation.name for operation in drawn} == set(names)
    strength = torch.tensor([operation.strength for operation in drawn])
    assert strength.mean().item() == pytest.approx(0.9, abs=0.015)
    assert strength.std().item() == pytest.approx(0.05, abs=0.01)
    assert strength.max() <= 1
    usual = draw_operations(StrongConfig(policy="randaugment"), 0, 2, 0, 50, 0)
    assert [len(each) for each in usual] == [2] * 50


def test_solarize_add_brightens_the_dark_half() -> None:
    image = torch.tensor([0.0, 0.3, 0.49, 0.5, 0.9]).view(1, 1, 5).expand(3, 1, 5)
    view = OPERATIONS["solarize_add"](image, 1.0)
    assert view[0, 0].tolist() == pytest.approx([110 / 255, 0.3 + 110 / 255, 0.49 + 110 / 255, 0.5, 0.9])


def test_randaugment_comes_after_the_colours() -> None:
    weak = torch.rand(4, 3, 16, 16)
    config = StrongConfig(policy="color_randaugment", probability=1.0)
    (both,) = strong_views(weak, config, 1, seed=0, step=3, first_slot=2)
    (color,) = strong_views(weak, config.model_copy(update={"policy": "color"}), 1, seed=0, step=3, first_slot=2)
    assert torch.equal(both, randaugment_view(color, draw_operations(config, 0, 3, 2, 4, 0)))
    assert not torch.equal(both, color)


def test_randaugment_views_by_hand() -> None:
    image = torch.rand(2, 3, 8, 8)
    draws = draw_operations(StrongConfig(policy="randaugment"), 0, 1, 0, 2, 0)
    before = image.clone()
    view = randaugment_view(image, draws)
    assert torch.equal(image, before)
    for row, operations in enumerate(draws):
        expected = image[row]
        for operation in operations:
            expected = OPERATIONS[operation.name](expected, operation.strength)
        torch.testing.assert_close(view[row], expected.clamp(0, 1))


@pytest.mark.parametrize("policy", ["color", "randaugment", "color_randaugment"])
def test_strong_views_are_independent_and_belong_to_global_slots(policy: str) -> None:
    config = StrongConfig.model_validate({"policy": policy})
    weak = torch.rand(4, 3, 16, 16)
    first, second = strong_views(weak, config, 2, seed=0, step=3, first_slot=0)
    assert not torch.equal(first, second)
    assert first.shape == weak.shape
    parts = [
        strong_views(weak[rows], config, 2, seed=0, step=3, first_slot=rows.start)
        for rows in (slice(0, 1), slice(1, 4))
    ]
    for number, whole in enumerate((first, second)):
        torch.testing.assert_close(torch.cat([part[number] for part in parts]), whole, rtol=0, atol=1e-6)


def test_policy_none_is_the_weak_view_itself() -> None:
    weak = torch.rand(2, 3, 4, 4)
    views = strong_views(weak, StrongConfig(policy="none"), 2, seed=0, step=0, first_slot=0)
    assert len(views) == 2
    assert all(view is weak for view in views)


def test_unlabeled_images_may_have_a_scale_of_their_own() -> None:
    config = DataConfig.model_validate({"crop": [7, 9], "scale": [0.5, 2.0], "flip": 0.4, "rotation": 10})
    assert weak_spec(config, unlabeled=True) == weak_spec(config, unlabeled=False)
    assert weak_spec(config, unlabeled=False) == WeakSpec((7, 9), (0.5, 2.0), 0.4, 10.0, config.rotation_probability)
    blurred = config.model_copy(update={"blur": 0.5})
    assert weak_spec(blurred, unlabeled=False) == weak_spec(config, unlabeled=False)._replace(blur=0.5)
    assert weak_spec(blurred, unlabeled=True) == weak_spec(config, unlabeled=True)
    other = config.model_copy(update={"unlabeled_scale": [0.5, 1.0, 1.5]})
    assert weak_spec(other, unlabeled=True).scale == (0.5, 1.0, 1.5)
    assert weak_spec(other, unlabeled=False).scale == (0.5, 2.0)
