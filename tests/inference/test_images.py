"""Predicting image files into a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from evenseg.data.classes import Classes
from evenseg.errors import InputError
from evenseg.inference import images as images_module
from evenseg.inference.images import Failure, predict_images
from evenseg.inference.inputs import expand_inputs
from evenseg.inference.job import Job
from evenseg.inference.outputs import overlay
from evenseg.inference.pictures import enlarged_label
from evenseg.inference.predict import Protocol

from .helpers import CLASSES, Bright, files


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def run(
    folder: Path,
    output: Path,
    *,
    model: nn.Module | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Failure]:
    sources = expand_inputs([str(folder)], exclude=output)
    job = Job(model or Bright(), output, CLASSES, Protocol(), **options)
    return predict_images(job, sources, overwrite=overwrite, progress=progress)


def test_outputs(tmp_path: Path) -> None:
    image = picture(6, 8)
    save(tmp_path / "in/sub/x.png", image)
    seen: list[tuple[int, int]] = []
    assert run(tmp_path / "in", tmp_path / "out", prob=True, progress=lambda *p: seen.append(p)) == []
    assert files(tmp_path / "out") == ["labels/sub/x.png", "overlays/sub/x.jpg", "probabilities/sub/x.npz"]
    expected = (image[..., 0] > 127).astype(np.uint8)
    with Image.open(tmp_path / "out/labels/sub/x.png") as label:
        assert label.mode == "P"
        assert np.array_equal(np.array(label), expected)
        assert label.getpalette()[:6] == [200, 0, 0, 0, 0, 200]
        assert np.array_equal(np.array(label.convert("RGB")), np.array(CLASSES.colors, dtype=np.uint8)[expected])
    with Image.open(tmp_path / "out/overlays/sub/x.jpg") as blend:
        assert blend.size == (8, 6)
        assert blend.mode == "RGB"
    prob = np.load(tmp_path / "out/probabilities/sub/x.npz")["prob"]
    assert prob.dtype == np.float16
    logits = Bright()(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    assert np.allclose(prob, logits.softmax(dim=1)[0], atol=1e-3)
    assert seen[-1] == (1, 1)


def test_only_what_is_wanted_is_written(tmp_path: Path) -> None:
    save(tmp_path / "in/x.png", picture(4, 4))
    run(tmp_path / "in", tmp_path / "out", overlay=False)
    assert files(tmp_path / "out") == ["labels/x.png"]


def test_sixteen_bit_labels_above_255_classes(tmp_path: Path) -> None:
    class Last(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return F.one_hot(torch.full(image[:, 0].shape, 299), 300).permute(0, 3, 1, 2).float()

    save(tmp_path / "in/x.png", picture(4, 5))
    classes = Classes(tuple(map(str, range(300))), ((1, 2, 3),) * 300, 65535, None)
    predict_images(Job(Last(), tmp_path / "out", classes, Protocol()), expand_inputs([str(tmp_path / "in")]))
    with Image.open(tmp_path / "out/labels/x.png") as label:
        assert label.mode.startswith("I")
        assert np.array_equal(np.array(label), np.full((4, 5), 299))


def test_labels_have_the_size_of_the_file_when_the_network_sees_another(tmp_path: Path) -> None:
    image = np.repeat(np.repeat(picture(4, 6) // 128 * 255, 10, axis=0), 10, axis=1)  # blocks of 10 x 10
    save(tmp_path / "in/x.png", image)
    model = Bright()
    run(tmp_path / "in", tmp_path / "out", model=model, resize=(8, 12), prob=True)
    assert model.batches == [(1, 3, 8, 12)]
    label = np.array(Image.open(tmp_path / "out/labels/x.png"))
    assert label.shape == (40, 60)
    inner = np.s_[3::10, 3::10]  # away from the edges of the blocks
    assert np.array_equal(label[inner], (image[..., 0] > 127)[inner])
    assert np.load(tmp_path / "out/probabilities/x.npz")["prob"].shape == (2, 40, 60)
    run(tmp_path / "in", tmp_path / "again", resize=8)  # the short side; labels are enlarged class by class
    assert np.array_equal(np.array(Image.open(tmp_path / "again/labels/x.png")), label)


def test_enlarged_label_is_the_largest_enlarged_probability() -> None:
    prob = torch.rand(2, 21, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(prob, size=(13, 11), mode="bilinear", align_corners=False).max(dim=1).indices
    assert torch.equal(enlarged_label(prob, (13, 11)), expected)
    assert torch.equal(enlarged_label(prob, (5, 7)), prob.max(dim=1).indices)


def test_images_of_equal_size_share_a_call(tmp_path: Path) -> None:
    for index, size in enumerate([(4, 5), (4, 5), (6, 5), (4, 5)]):
        save(tmp_path / f"in/{index}.png", picture(*size, seed=index))
    model = Bright()
    run(tmp_path / "in", tmp_path / "out", model=model)
    assert [shape[0] for shape in model.batches] == [2, 1, 1]
    for index in range(4):
        label = np.array(Image.open(tmp_path / f"out/labels/{index}.png"))
        image = np.array(Image.open(tmp_path / f"in/{index}.png"))
        assert np.array_equal(label, image[..., 0] > 127)


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[:, :8] = 255  # bright at the left of the stored image
    exif = Image.Exif()
    exif[274] = 6  # turned: to be shown rotated by 90 degrees clockwise
    save(tmp_path / "in/x.jpg", image, exif=exif.tobytes(), quality=95)
    run(tmp_path / "in", tmp_path / "out")
    label = np.array(Image.open(tmp_path / "out/labels/x.png"))
    assert np.array_equal(label, np.rot90(image[..., 0] > 127, -1))


def test_unreadable_images_are_left_out_and_reported(tmp_path: Path) -> None:
    for name in "ace":
        save(tmp_path / f"in/{name}.png", picture(4, 4))
    (tmp_path / "in/b.png").write_bytes(b"")
    whole = (tmp_path / "in/a.png").read_bytes()
    (tmp_path / "in/d.png").write_bytes(whole[: len(whole) // 2])
    seen: list[tuple[int, int]] = []
    failures = run(tmp_path / "in", tmp_path / "out", progress=lambda *p: seen.append(p))
    assert [failure.path.name for failure in failures] == ["b.png", "d.png"]
    assert all(str(failure.path) in failure.message and "\n" not in failure.message for failure in failures)
    assert files(tmp_path / "out") == [f"labels/{n}.png" for n in "ace"] + [f"overlays/{n}.jpg" for n in "ace"]
    assert seen[-1] == (5, 5)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"in/{name}.png", picture(4, 4))
    existing = save(tmp_path / "out/overlays/b.jpg", picture(2, 2))
    before = existing.read_bytes()
    with pytest.raises(InputError, match=r"overlays/b\.jpg: exists already"):
        run(tmp_path / "in", tmp_path / "out")
    assert files(tmp_path / "out") == ["overlays/b.jpg"]
    assert existing.read_bytes() == before
    run(tmp_path / "in", tmp_path / "out", overlay=False)  # does not touch it
    assert existing.read_bytes() == before
    run(tmp_path / "in", tmp_path / "out", overwrite=True)
    assert existing.read_bytes() != before


def test_half_a_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "in/x.png", picture(4, 4))
    run(tmp_path / "in", tmp_path / "out", overlay=False)
    before = (tmp_path / "out/labels/x.png").read_bytes()

    def full_disk(self: Image.Image, file: object, **options: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(InputError, match=r"labels/x\.png: cannot be written \(No space left on device\)"):
        run(tmp_path / "in", tmp_path / "out", overlay=False, overwrite=True)
    assert (tmp_path / "out/labels/x.png").read_bytes() == before
    assert files(tmp_path / "out") == ["labels/x.png"]  # no temporary file left


def test_a_file_in_place_of_the_output_folder_is_named(tmp_path: Path) -> None:
    save(tmp_path / "in/x.png", picture(4, 4))
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="out: cannot be written"):
        run(tmp_path / "in", tmp_path / "out")


def test_model_runs_in_evaluation_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "in/x.png", picture(4, 4))
    modes: list[bool] = []
    model = Bright()
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    run(tmp_path / "in", tmp_path / "out", model=model.train())
    assert modes == [False]
    assert model.training


def test_overlay_mixes_half_and_half() -> None:
    image = np.full((1, 3, 3), 100, dtype=np.uint8)
    mixed = overlay(image, np.array([[0, 1, 255]], dtype=np.uint8), CLASSES.colors)
    assert mixed.tolist() == [[[150, 50, 50], [50, 50, 150], [100, 100, 100]]]


def test_reads_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        save(tmp_path / f"in/{name}.png", picture(4, 4))
    seen: list[str] = []
    decode = images_module.decode_image
    monkeypatch.setattr(images_module, "decode_image", lambda path: seen.append(path.name) or decode(path))
    run(tmp_path / "in", tmp_path / "out")
    assert sorted(seen) == ["a.png", "b.png", "c.png"]
