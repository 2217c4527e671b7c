"""Scoring a data set: every pixel once, in any batches, on any number of ranks."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evenseg.data.classes import Classes
from evenseg.errors import InputError
from evenseg.inference.evaluate import evaluate, to_images
from evenseg.inference.predict import Protocol

CLASSES = Classes(("dark", "medium", "bright"), ((0, 0, 0), (9, 9, 9), (99, 99, 99)), 255, None)


class Brightness(nn.Module):
    """Class by the value of the red channel: below 1/3, below 2/3, above."""

    def __init__(self) -> None:
        super().__init__()
        self.was_training: list[bool] = []
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.was_training.append(self.training)
        self.batches.append(len(image))
        red = image[:, 0]
        return torch.stack([red < 1 / 3, (red >= 1 / 3) & (red < 2 / 3), red >= 2 / 3], dim=1).float()


class Noise:
    """Random images of several sizes with random labels, a tenth of them ignored."""

    def __init__(self, sizes: list[tuple[int, int]], classes: Classes = CLASSES, dtype: type = np.uint8) -> None:
        self.sizes, self.classes, self.dtype = sizes, classes, dtype

    def __len__(self) -> int:
        return len(self.sizes)

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (*self.sizes[index], 3), dtype=np.uint8)

    def label(self, index: int) -> np.ndarray | None:
        rng = np.random.default_rng(1000 + index)
        label = rng.integers(0, 3, self.sizes[index]).astype(self.dtype)
        label[rng.random(label.shape) < 0.1] = self.classes.ignore_label
        return label

    def name(self, index: int) -> str:
        return f"noise/{index}"


SIZES = [(6, 8)] * 5 + [(7, 5)] + [(6, 8)] * 2


def brute_force(dataset: Noise) -> Tensor:
    counts = torch.zeros(3, 3, dtype=torch.int64)
    for index in range(len(dataset)):
        red, label = dataset.image(index)[..., 0] / 255, dataset.label(index)
        pred = np.digitize(red, [1 / 3, 2 / 3])
        for truth in range(3):
            for guess in range(3):
                counts[truth, guess] += int(((label == truth) & (pred == guess)).sum())
    return counts


@pytest.mark.parametrize(
    "protocol", [Protocol(), Protocol(batch=1), Protocol("sliding", (4, 4), (3, 3)), Protocol(flip=True)]
)
def test_counts_every_pixel_once(protocol: Protocol) -> None:
    dataset = Noise(SIZES)
    assert torch.equal(evaluate(Brightness(), dataset, protocol).counts, brute_force(dataset))


def test_counts_of_every_image() -> None:
    dataset = Noise(SIZES)
    counts = torch.zeros(len(dataset), 3, 3, dtype=torch.int64)
    matrix = evaluate(Brightness(), dataset, Protocol(batch=3), image_counts=counts)
    for index in range(len(dataset)):
        alone = torch.zeros(len(dataset), 3, 3, dtype=torch.int64)
        # a rank that has this image only
        single = evaluate(Brightness(), dataset, Protocol(), rank=index, world_size=len(dataset), image_counts=alone)
        expected = torch.stack([single.counts.diagonal(), single.counts.sum(dim=1), single.counts.sum(dim=0)])
        assert torch.equal(counts[index], expected)
        assert alone.sum() == expected.sum()
    assert torch.equal(counts.sum(dim=0)[1], matrix.counts.sum(dim=1))


def test_neighbours_of_equal_size_share_a_call() -> None:
    model = Brightness()
    evaluate(model, Noise(SIZES), Protocol(batch=3))
    assert model.batches == [3, 2, 1, 2]


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_ranks_share_the_images_without_padding(world_size: int) -> None:
    dataset = Noise(SIZES)
    parts = [evaluate(Brightness(), dataset, Protocol(), rank=r, world_size=world_size) for r in range(world_size)]
    assert torch.equal(torch.stack([part.counts for part in parts]).sum(dim=0), brute_force(dataset))


def test_sixteen_bit_labels() -> None:
    names = tuple(f"class {i}" for i in range(300))
    dataset = Noise(SIZES, Classes(names, ((0, 0, 0),) * 300, 65535, None), np.uint16)
    model = nn.Sequential(Brightness(), nn.ConstantPad3d((0, 0, 0, 0, 0, 297), -1.0))
    counts = evaluate(model, dataset, Protocol()).counts
    assert torch.equal(counts[:3, :3], brute_force(dataset))
    assert counts.sum() == counts[:3, :3].sum()


def test_model_runs_in_evaluation_mode_and_gets_its_mode_back() -> None:
    model = Brightness().train()
    evaluate(model, Noise(SIZES), Protocol())
    assert not any(model.was_training)
    assert model.training


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    evaluate(Brightness(), Noise(SIZES), Protocol(batch=4), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [4, 5, 6, 8]
    assert {total for _, total in seen} == {8}


def test_missing_and_misshapen_labels_are_named() -> None:
    class Unlabeled(Noise):
        def label(self, index: int) -> np.ndarray | None:
            return None if index == 2 else super().label(index)

    class Cut(Noise):
        def label(self, index: int) -> np.ndarray | None:
            return super().label(index)[: 4 if index == 1 else None]

    with pytest.raises(InputError, match="noise/2: has no label"):
        evaluate(Brightness(), Unlabeled(SIZES), Protocol())
    with pytest.raises(InputError, match="noise/1: the label is 4x8 pixels, the image 6x8"):
        evaluate(Brightness(), Cut(SIZES), Protocol())


def test_images_become_floats() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    tensor = to_images([image, image + 1], "cpu")
    assert tensor.shape == (2, 3, 2, 3)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor[0], torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
