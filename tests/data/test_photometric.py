from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as tv

from evenseg.config import StrongConfig
from evenseg.data.photometric import LUMA, ColorDraws, _with_opencv, _with_torch, color_view, draw_color

STILL = {
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "grey": 0.0,
    "blur": 0.0,
    "probability": 1.0,
}


def soft_images(batch: int = 6, height: int = 9, width: int = 11, low: float = 0.35, high: float = 0.65) -> Tensor:
    """Colours so far from black and white that nothing is clamped."""
    generator = torch.Generator().manual_seed(3)
    return low + (high - low) * torch.rand(batch, 3, height, width, generator=generator)


def only(**changes: float) -> StrongConfig:
    return StrongConfig.model_validate(STILL | changes)


def view_of(image: Tensor, config: StrongConfig, step: int = 0) -> Tensor:
    return color_view(image, draw_color(config, 0, step, 0, len(image), 0))


def luma(image: Tensor) -> Tensor:
    return (image * torch.tensor(LUMA).view(3, 1, 1)).sum(dim=-3)


def test_nothing_drawn_changes_nothing() -> None:
    image = torch.rand(4, 3, 8, 8)
    for config in (only(), StrongConfig(probability=0, grey=0, blur=0)):
        torch.testing.assert_close(view_of(image, config), image, rtol=0, atol=1e-6)


def test_brightness_scales_all_channels() -> None:
    image = soft_images()
    factor = view_of(image, only(brightness=0.4)) / image
    assert factor.flatten(1).std(dim=1).max() < 1e-6
    assert ((factor > 0.6) & (factor < 1.4)).all()
    assert factor.mean(dim=(1, 2, 3)).std() > 0.05


@pytest.mark.parametrize("name", ["contrast", "saturation"])
def test_against_torchvision_with_the_factor_that_was_drawn(name: str) -> None:
    image = soft_images()
    view = view_of(image, only(**{name: 0.4}))
    adjust = getattr(tv, f"adjust_{name}")
    for before, after in zip(image, view, strict=True):
        centre = luma(before).mean() if name == "contrast" else luma(before)
        factor = float(((after - centre) * (before - centre)).sum() / ((before - centre) ** 2).sum())
        assert 0.6 <= factor <= 1.4
        # torchvision takes 0.2989 for the luma of red
        torch.testing.assert_close(after, adjust(before, factor), rtol=0, atol=2e-4)


def test_hue_turns_the_chroma_and_keeps_luma_and_greys() -> None:
    image = soft_images(32)
    image[:, :, 0] = image[:, :1, 0]  # a grey row
    view = view_of(image, only(hue=0.25))
    torch.testing.assert_close(luma(view), luma(image), rtol=0, atol=2e-4)
    torch.testing.assert_close(view[:, :, 0], image[:, :, 0], rtol=0, atol=2e-4)
    to_chroma = torch.tensor([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    before, after = (
        torch.view_as_complex((each[:, :, 1:].movedim(1, -1) @ to_chroma.T).contiguous()) for each in (image, view)
    )
    turned = (after / before).flatten(1)
    torch.testing.assert_close(turned.abs(), torch.ones_like(turned.abs()), rtol=0, atol=1e-2)
    angle = turned.mean(dim=1).angle()
    assert (turned.angle() - angle[:, None]).abs().max() < 1e-2
    assert angle.abs().max() <= math.pi / 2
    assert angle.min() < -0.7 < 0.7 < angle.max()


def test_grey_views_show_the_luma() -> None:
    image = torch.rand(3, 3, 8, 8)
    view = view_of(image, only(grey=1.0))
    torch.testing.assert_close(view, luma(image)[:, None].expand_as(view), rtol=0, atol=1e-6)


def test_all_together_by_brute_force() -> None:
    image = soft_images()
    config = only(brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1)
    draws = draw_color(config, 7, 3, 0, 6, 1)
    view = color_view(image, draws)
    for row in range(6):
        mean = luma(image[row]).mean()
        for y, x in ((0, 0), (4, 5)):
            pixel = draws.matrix[row] @ image[row, :, y, x] + draws.offset[row] * mean
            torch.testing.assert_close(view[row, :, y, x], pixel, rtol=0, atol=1e-6)
    # every step keeps greys grey, and brightness * (contrast + (1 - contrast)) is what a constant grey image gets
    grey = torch.full((6, 3, 4, 4), 0.4)
    brightness = draws.matrix.sum(dim=2)[:, 0] + draws.offset
    torch.testing.assert_close(color_view(grey, draws), grey * brightness[:, None, None, None], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_against_torchvision(sigma: float) -> None:
    image = torch.rand(2, 3, 25, 31)
    view = view_of(image, only(blur=1.0).model_copy(update={"blur_sigma": (sigma, sigma)}))
    side = 2 * math.ceil(3 * sigma) + 1
    torch.testing.assert_close(view, tv.gaussian_blur(image, [side, side], [sigma, sigma]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 3, 24, 37), (8, 3, 5, 4), (8, 3, 1, 9)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_both_implementations_agree(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    image = torch.rand(shape).contiguous(memory_format=memory_format)
    before = image.clone()
    draws = draw_color(StrongConfig(), 0, 5, 0, 8, 0)
    assert 0 < sum(sigma > 0 for sigma in draws.sigma) < 8
    ours, theirs = _with_opencv(image, draws), _with_torch(image, draws)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert torch.equal(image, before)
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_the_device_is_never_waited_for() -> None:
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            assert not any(
                word in str(func) for word in ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")
            )
            return func(*args, **(kwargs or {}))

    image = torch.rand(8, 3, 16, 16)
    draws = draw_color(StrongConfig(), 0, 5, 0, 8, 0)
    with Watch():
        _with_torch(image, draws)


def test_draws_belong_to_global_slots() -> None:
    config = StrongConfig()
    whole = draw_color(config, 1, 9, 0, 8, 0)
    for parts in ([(0, 4), (4, 4)], [(0, 2), (2, 2), (4, 2), (6, 2)]):
        drawn = [draw_color(config, 1, 9, first, size, 0) for first, size in parts]
        assert torch.equal(torch.cat([each.matrix for each in drawn]), whole.matrix)
        assert torch.equal(torch.cat([each.offset for each in drawn]), whole.offset)
        assert sum((each.sigma for each in drawn), ()) == whole.sigma
    others = [draw_color(config, 1, 9, 0, 8, 1), draw_color(config, 1, 10, 0, 8, 0), draw_color(config, 2, 9, 0, 8, 0)]
    assert not any(torch.equal(each.matrix, whole.matrix) for each in others)


def test_frequencies_are_those_of_the_configuration() -> None:
    config = StrongConfig(probability=0.7, grey=0.25, blur=0.4, blur_sigma=(0.5, 1.5))
    draws = draw_color(config, 0, 0, 0, 3000, 0)
    eye = torch.eye(3)
    still = ((draws.matrix - eye).abs().amax(dim=(1, 2)) < 1e-6).float().mean()
    assert abs(still - 0.3 * 0.75) < 0.03
    assert abs((torch.linalg.matrix_rank(draws.matrix, atol=1e-5) == 1).float().mean() - 0.25) < 0.03
    sigma = torch.tensor(draws.sigma)
    assert abs((sigma > 0).float().mean() - 0.4) < 0.03
    assert 0.5 <= sigma[sigma > 0].min() < 0.55 < 1.45 < sigma.max() <= 1.5


def test_strengths_above_one_never_turn_colours_negative() -> None:
    config = StrongConfig(brightness=3.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, probability=1.0)
    scale = draw_color(config, 0, 0, 0, 500, 0).matrix[:, 0, 0]
    assert 0 <= scale.min() < 0.1
    assert 3.8 < scale.max() <= 4


def test_other_float_types() -> None:
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    draws = ColorDraws(torch.eye(3).expand(2, 3, 3), torch.zeros(2), (0.0, 0.8))
    view = color_view(image, draws)
    assert view.dtype == torch.float64
    torch.testing.assert_close(view.float(), color_view(image.float(), draws), rtol=0, atol=1e-6)
