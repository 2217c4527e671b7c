"""Whole, sliding, multi-scale and mirrored prediction, against brute force and invariants."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evenseg.errors import InputError
from evenseg.inference.predict import (
    Protocol,
    evaluating,
    images_at_once,
    make_protocol,
    predict_label,
    predict_prob,
    windows,
)


class PerPixel(nn.Module):
    """Logits that depend on the pixel alone, so that windows cannot change them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        nn.init.normal_(self.conv.weight, std=5, generator=torch.Generator().manual_seed(1))
        self.batches: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append(tuple(image.shape))
        return self.conv(image)


class Contextual(PerPixel):
    """Logits that depend on the neighbourhood, without left-right symmetry."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 5, padding=2)
        nn.init.normal_(self.conv.weight, std=2, generator=torch.Generator().manual_seed(2))


def images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


def test_whole_is_the_model_itself() -> None:
    model, image = Contextual(), images(3, 9, 11)
    logits = model(image).detach()
    assert torch.equal(predict_prob(model, image, Protocol()), logits.softmax(dim=1))
    assert torch.equal(predict_label(model, image, Protocol()), logits.max(dim=1).indices)


def test_calls_hold_at_most_batch_images() -> None:
    model = PerPixel()
    for predict in (predict_prob, predict_label):
        model.batches.clear()
        predict(model, images(5, 4, 4), Protocol(batch=2))
        assert [shape[0] for shape in model.batches] == [2, 2, 1]
    model.batches.clear()
    predict_prob(model, images(2, 10, 10), Protocol("sliding", (4, 4), (3, 3), batch=5))
    assert [shape[0] for shape in model.batches] == [5, 5, 5, 3]  # 2 images of 9 windows


@pytest.mark.parametrize("size", [(10, 13), (4, 6), (5, 20), (3, 4)])
def test_windows_do_not_change_a_per_pixel_model(size: tuple[int, int]) -> None:
    model, image = PerPixel(), images(2, *size)
    protocol = Protocol("sliding", (4, 6), (3, 2), batch=3)
    assert torch.allclose(
        predict_prob(model, image, protocol), predict_prob(model, image, Protocol()), rtol=0, atol=1e-6
    )


def test_windows_at_least_as_large_as_the_image_are_the_whole_image() -> None:
    model, image = Contextual(), images(2, 9, 11)
    whole = predict_prob(model, image, Protocol())
    for window in ((9, 11), (50, 11), (50, 50)):
        model.batches.clear()
        assert torch.equal(predict_prob(model, image, Protocol("sliding", window, (5, 5))), whole)
        assert model.batches == [(2, 3, 9, 11)]


def test_overlaps_are_means_of_the_windows() -> None:
    model, image = Contextual(), images(2, 7, 8)
    protocol = Protocol("sliding", (4, 5), (3, 2), batch=3)
    expected = torch.zeros(2, 5, 7, 8)
    with torch.no_grad():
        for b in range(2):
            for y in range(7):
                for x in range(8):
                    seen = [
                        model(image[b : b + 1, :, y0:y1, x0:x1]).softmax(dim=1)[0, :, y - y0, x - x0]
                        for y0, x0, y1, x1 in windows(7, 8, protocol)
                        if y0 <= y < y1 and x0 <= x < x1
                    ]
                    expected[b, :, y, x] = torch.stack(seen).mean(dim=0)
    prob = predict_prob(model, image, protocol)
    assert torch.allclose(prob, expected, rtol=0, atol=1e-6)
    assert torch.equal(predict_label(model, image, protocol), prob.max(dim=1).indices)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (7, 7), (7, 3), (16, 11)])
def test_windows_cover_every_pixel(window: int, stride: int) -> None:
    for length in range(1, 40):
        boxes = windows(length, 5, Protocol("sliding", (window, 5), (stride, 5)))
        cover = torch.zeros(length, dtype=torch.int64)
        for y0, x0, y1, x1 in boxes:
            assert (x0, x1) == (0, 5)
            assert 0 <= y0 < y1 <= length
            assert y1 - y0 == min(window, length)
            cover[y0:y1] += 1
        assert (cover > 0).all()
        assert len(set(boxes)) == len(boxes)
        assert len(boxes) == 1 + max(0, -(-(length - window) // stride))  # no more than needed


@pytest.mark.parametrize("protocol", [Protocol(flip=True), Protocol("sliding", (5, 6), (4, 4), flip=True)])
def test_mirror_image_gives_the_mirrored_prediction(protocol: Protocol) -> None:
    model, image = Contextual(), images(2, 9, 11)
    prob = predict_prob(model, image, protocol)
    mirrored = predict_prob(model, image.flip(-1), protocol)
    assert torch.allclose(mirrored.flip(-1), prob, rtol=0, atol=1e-6)
    one_sided = predict_prob(model, image, protocol._replace(flip=False))
    assert not torch.allclose(one_sided, prob, rtol=0, atol=1e-3)


def test_scales_and_mirror_images_are_averaged() -> None:
    model, image = Contextual(), images(1, 12, 10)
    expected = []
    with torch.no_grad():
        for scale in (0.5, 1.0, 1.75):
            size = (round(12 * scale), round(10 * scale))
            view = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)
            for turn in (lambda tensor: tensor, lambda tensor: tensor.flip(-1)):
                prob = turn(model(turn(view)).softmax(dim=1))
                expected.append(F.interpolate(prob, size=(12, 10), mode="bilinear", align_corners=False))
    protocol = Protocol(scales=(0.5, 1.0, 1.75), flip=True)
    prob = predict_prob(model, image, protocol)
    assert torch.allclose(prob, torch.stack(expected).mean(dim=0), rtol=0, atol=1e-5)
    assert torch.allclose(prob.sum(dim=1), torch.ones(1, 12, 10), rtol=0, atol=1e-5)
    assert torch.equal(predict_label(model, image, protocol), prob.max(dim=1).indices)


def test_tiny_images_survive_small_scales() -> None:
    prob = predict_prob(PerPixel(), images(1, 1, 2), Protocol(scales=(0.25, 1.0)))
    assert prob.shape == (1, 5, 1, 2)


def test_low_precision_logits_are_averaged_in_float32() -> None:
    class Low(PerPixel):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image).bfloat16()

    model, image = Low(), images(1, 6, 6)
    prob = predict_prob(model, image, Protocol(flip=True))
    assert prob.dtype == torch.float32
    assert torch.equal(predict_label(model, image, Protocol()), model(image).max(dim=1).indices)


def test_every_call_runs_in_its_own_precision_context() -> None:
    entered = 0

    @contextmanager
    def autocast():
        nonlocal entered
        entered += 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield

    model = PerPixel()
    predict_prob(model, images(3, 4, 4), Protocol(batch=2, flip=True), autocast=autocast)
    assert entered == len(model.batches) == 4


def test_no_graph_is_kept() -> None:
    assert not predict_prob(PerPixel(), images(1, 4, 4), Protocol()).requires_grad


def test_large_inputs_share_a_call_with_fewer_others() -> None:
    assert images_at_once((10, 10), Protocol(batch=8)) == 8
    assert images_at_once((10, 10), Protocol(batch=8, scales=(0.5, 2.0))) == 2
    assert images_at_once((10, 10), Protocol(batch=2, scales=(2.0,))) == 1
    assert images_at_once((10, 10), Protocol("sliding", (10, 10), (5, 5), batch=8)) == 8
    assert images_at_once((10, 20), Protocol("sliding", (10, 10), (5, 5), batch=8)) == 2


def test_evaluating_gives_every_module_its_mode_back() -> None:
    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> "Stubborn":
            return super().train(True)

    model = nn.Sequential(nn.BatchNorm2d(3), Stubborn())
    model[0].eval()  # frozen, inside a model in training
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True]


def test_defaults_of_the_protocol() -> None:
    assert make_protocol() == Protocol()
    assert make_protocol(mode="sliding", crop=(90, 100)) == Protocol("sliding", (90, 100), (60, 67))
    assert make_protocol(mode="sliding", window=(30, 40)).stride == (20, 27)
    assert make_protocol(scales=[1, 2]).scales == (1.0, 2.0)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate\.stride: 5x9 is larger than the window of 8x8"):
        make_protocol(mode="sliding", window=(8, 8), stride=(5, 9))
    with pytest.raises(InputError, match=r"evaluate\.scales"):
        make_protocol(scales=[])


def test_labels_of_protocols() -> None:
    assert Protocol().label == "whole"
    assert (
        Protocol("sliding", (512, 512), (341, 341), (0.5, 1.0, 1.25), flip=True).label
        == "sliding 512x512 stride 341x341, scales 0.5 1 1.25, flip"
    )
