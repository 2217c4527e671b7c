"""``data.subclasses``: read, checked, remembered, cached, and cropped with the labels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evenseg.config import DataConfig
from evenseg.data import subclasses
from evenseg.data.build import build_data
from evenseg.data.cache import CachedSubclasses, cache_splits
from evenseg.data.dataset import DataSplits
from evenseg.data.loaders import build_loader
from evenseg.data.subclasses import SIDECAR, read_sidecar
from evenseg.errors import InputError
from evenseg.types import PasteSpec, ViewSpec

from .subclass_folder import subclasses_of, write_subclasses
from .tiny_data import save, write_classes, write_list, write_pairs

COUNTS = (2, 1, 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_classes(tmp_path)
    write_list(tmp_path, "labeled.txt", write_pairs(tmp_path, 5))
    return tmp_path


def build(root: Path, **options: object) -> DataSplits:
    config = DataConfig.model_validate({"root": str(root), "labeled": "labeled.txt", **options})
    return build_data(config, seed=0, cache_dir=root / "cache", needs_unlabeled=False)


def parents(counts: tuple[int, ...], ids: np.ndarray, ignored: int) -> np.ndarray:
    table = dict(enumerate(np.repeat(np.arange(len(counts)), counts).tolist()))
    return np.vectorize(lambda value: table[value] if value != ignored else 255)(ids)


@pytest.mark.parametrize(("counts", "dtype"), [(COUNTS, np.uint8), ((200, 50, 5), np.uint8), ((250, 1, 5), np.uint16)])
def test_maps_are_read_as_they_were_written(root: Path, counts: tuple[int, ...], dtype: type) -> None:
    write_subclasses(root / "sub", build(root), counts)
    splits = build(root, subclasses="sub")
    assert splits.subclasses is not None
    assert splits.subclasses.counts.tolist() == list(counts)
    for index in range(5):
        label = splits.labeled.label(index)
        found = splits.subclasses.maps(index)["subclass"]
        assert label is not None
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, subclasses_of(label, counts, index))
    assert len(splits.lists["subclasses"]) == 5
    assert "subclasses" not in splits.split_sha256


@pytest.mark.parametrize("counts", [COUNTS, (300, 1, 2)])
@pytest.mark.parametrize("rotation", [0, 30])
def test_batches_have_them_cropped_as_the_labels(root: Path, counts: tuple[int, ...], rotation: int) -> None:
    write_subclasses(root / "sub", build(root), counts)
    # crops larger than the images, so that views are padded
    splits = build(root, subclasses="sub", crop=[20, 24], rotation=rotation, workers=0, scale=[0.5, 2.0])
    assert splits.subclasses is not None
    config = DataConfig(root=str(root), crop=(20, 24), rotation=rotation, rotation_probability=1.0, workers=0)
    views = ViewSpec(unlabeled=False, paste=PasteSpec(0.5, (0.5, 2.0)))
    loader = build_loader(
        splits,
        config,
        seed=0,
        views=views,
        labeled_batch=4,
        unlabeled_batch=0,
        last_step=6,
        labeled_maps=splits.subclasses.maps,
    )
    ignored = 255 if sum(counts) <= 255 else 65535
    seen = 0
    for _, _, raw in loader:
        assert raw.fatal is None
        for label, maps in ((raw.labeled_label, raw.labeled_maps), (raw.paste_label, raw.paste_maps)):
            assert label is not None
            np.testing.assert_array_equal(parents(counts, maps["subclass"].numpy(), ignored), label.numpy())
            seen += int((maps["subclass"] == ignored).sum())
    assert seen > 0


def test_a_cache_holds_them_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for counts in (COUNTS, (300, 1, 2)):
        write_subclasses(root / "sub", build(root), counts)
        splits = build(root, subclasses="sub")
        assert splits.subclasses is not None
        before = [splits.subclasses.read(index) for index in range(5)]
        cached = cache_splits(splits, root / "images").subclasses
        assert cached is not None
        assert isinstance(cached.read, CachedSubclasses)
        monkeypatch.setattr(subclasses, "decode_label", None)
        for index, each in enumerate(before):
            np.testing.assert_array_equal(cached.read(index), each)
        monkeypatch.undo()


def test_sound_maps_are_remembered_and_changed_ones_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_subclasses(root / "sub", build(root), COUNTS)
    build(root, subclasses="sub")
    decoded: list[Path] = []
    decode = subclasses.decode_label

    def noted(path: Path) -> np.ndarray:
        decoded.append(path)
        return decode(path)

    monkeypatch.setattr(subclasses, "decode_label", noted)
    build(root, subclasses="sub")
    assert decoded == []
    save(root / "labels/train/003.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(InputError, match=r"3\.png: the subclass of \d+ pixels does not belong to their class"):
        build(root, subclasses="sub")
    assert decoded == [root / "sub" / "labels" / "3.png"]


def test_a_map_that_is_changed_is_refused(root: Path) -> None:
    plain = build(root)
    write_subclasses(root / "sub", plain, COUNTS)
    label = plain.labeled.label(2)
    assert label is not None
    save(root / "sub/labels/2.png", subclasses_of(label, COUNTS, 99))
    with pytest.raises(InputError, match=r"2\.png: was changed since it was written; cluster again"):
        build(root, subclasses="sub")


def exchange(folder: Path, values: np.ndarray) -> None:
    """Another first map, which the sidecar knows of."""
    path = save(folder / "labels/0.png", values)
    sidecar = read_sidecar(folder)
    maps = {**sidecar.maps, next(iter(sidecar.maps)): ("labels/0.png", hashlib.sha256(path.read_bytes()).hexdigest())}
    (folder / SIDECAR).write_text(json.dumps(sidecar._replace(maps=maps).content()))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("id", r"0\.png: has the id 6, and there are 6 subclasses"),
        ("parent", r"0\.png: the subclass of 192 pixels does not belong to their class"),
        ("ignored", r"0\.png: the subclass of \d+ pixels does not belong"),
        ("size", r"0\.png: has 15x12 pixels, the label of images/train/000\.png 16x12"),
        ("missing", r"0\.png"),
    ],
)
def test_maps_that_do_not_fit_are_named(root: Path, fault: str, message: str) -> None:
    plain = build(root)
    folder = write_subclasses(root / "sub", plain, COUNTS)
    label = plain.labeled.label(0)
    assert label is not None
    good = subclasses_of(label, COUNTS)
    if fault == "id":
        exchange(folder, np.where(good == 5, 6, good).astype(np.uint8))
    if fault == "parent":
        save(root / "labels/train/000.png", np.zeros((12, 16), np.uint8))
        exchange(folder, np.full((12, 16), 2, np.uint8))
    if fault == "ignored":
        exchange(folder, np.where(good == 255, 0, good).astype(np.uint8))
    if fault == "size":
        exchange(folder, good[:, :15])
    if fault == "missing":
        (folder / "labels/0.png").unlink()
    with pytest.raises(InputError, match=message) as caught:
        build(root, subclasses="sub")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {"classes": ("road", "sign", "car")},
            {},
            "divides the classes road, sign, car, and the run has road, car, sign",
        ),
        ({"labeled_sha256": "0" * 64}, {}, "belongs to another list of labeled images"),
        ({}, {"resize": [6, 8]}, r"the maps are of data\.resize=null, and the run has \[6, 8\]"),
        ({"maps": {}}, {}, r"names no map of images/train/000\.png"),
        ({"counts": (2, 1)}, {}, "was changed since it was written"),
    ],
)
def test_a_sidecar_of_something_else_is_refused(
    root: Path, changes: dict[str, object], options: dict[str, object], message: str
) -> None:
    write_subclasses(root / "sub", build(root), COUNTS, **changes)
    with pytest.raises(InputError, match=message):
        build(root, subclasses="sub", **options)


@pytest.mark.parametrize("key", ["counts", "labeled_sha256", "made_with"])
def test_a_sidecar_edited_by_hand_is_refused(root: Path, key: str) -> None:
    path = write_subclasses(root / "sub", build(root), COUNTS) / SIDECAR
    content = json.loads(path.read_text())
    content[key] = {"counts": [3, 1, 2], "labeled_sha256": "0", "made_with": {"seed": 1}}[key]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"subclasses\.json: was changed since it was written"):
        build(root, subclasses="sub")


def test_where_there_is_none(root: Path) -> None:
    with pytest.raises(InputError, match=r"data\.subclasses: nowhere: no such folder"):
        build(root, subclasses="nowhere")
    (root / "sub").mkdir()
    with pytest.raises(InputError, match=r"subclasses\.json: no such file; give the --output of evenseg cluster"):
        build(root, subclasses="sub")
    (root / "sub" / SIDECAR).write_text("{")
    with pytest.raises(InputError, match=r"subclasses\.json: damaged"):
        build(root, subclasses="sub")


def test_enlarged_maps_may_disagree_with_the_labels(root: Path) -> None:
    folder = write_subclasses(root / "sub", build(root), COUNTS, consistent=False)
    exchange(folder, np.zeros((12, 16), np.uint8))
    assert build(root, subclasses="sub").subclasses is not None


def test_synthetic_scenes_have_them_too(tmp_path: Path) -> None:
    def scenes(seed: int, **options: object) -> DataSplits:
        config = DataConfig.model_validate(
            {"dataset": "synthetic", "size": [32, 40], "train_images": 3, "labeled": 3, **options}
        )
        return build_data(config, seed=seed, cache_dir=tmp_path / "cache", needs_unlabeled=False)

    folder = write_subclasses(tmp_path / "sub", scenes(0), (3, *[1] * 10))
    splits = scenes(0, subclasses=str(folder))
    assert splits.subclasses is not None
    label = splits.labeled.label(1)
    assert label is not None
    np.testing.assert_array_equal(splits.subclasses.read(1), subclasses_of(label, (3, *[1] * 10), 1))
    with pytest.raises(InputError, match="does not belong to their class"):  # other scenes of the same names
        scenes(1, subclasses=str(folder))


def test_paste_takes_the_subclasses_along() -> None:
    from evenseg.components.copy_paste import AdaptiveCopyPaste
    from evenseg.functional.random import generator
    from evenseg.types import Batch, DataFacts, LabeledBatch, PasteSource, Step

    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (4, 6, 6), generator=g)
    second = torch.where(torch.rand(4, 6, 6, generator=g) < 0.3, 255, torch.randint(0, 3, (4, 6, 6), generator=g))
    own = torch.where(label == 255, 65535, label * 100)
    theirs = torch.where(second == 255, 65535, second * 100 + 7)
    paste = PasteSource(torch.ones(4, 3, 6, 6), second, torch.arange(4), {"subclass": theirs})
    batch = Batch(LabeledBatch(torch.zeros(4, 3, 6, 6), label, torch.arange(4), {"subclass": own}, paste))
    facts = DataFacts(("a", "b", "c"), torch.tensor([5, 3, 2]), 4, 0, 4, 0, torch.ones(3, 4, dtype=torch.bool))
    pasted = AdaptiveCopyPaste(classes=2, data=facts).prepare(batch, Step(0, 10, generator(0))).labeled
    new = pasted.image[:, 0] == 1
    assert new.any()
    assert torch.equal(pasted.maps["subclass"], torch.where(new, theirs, own))
    assert torch.equal(pasted.maps["subclass"] // 100, pasted.label)
