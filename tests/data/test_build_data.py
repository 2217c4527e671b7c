from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evenseg.config import DataConfig
from evenseg.data.build import build_data, build_scored
from evenseg.data.dataset import Dataset, DataSplits
from evenseg.data.splits import fingerprint
from evenseg.errors import InputError
from tests.data.tiny_data import NAMES, random_image, random_label, save, write_classes, write_list, write_pairs

CAMVID = Path(__file__).resolve().parents[2] / "../shared/data/camvid"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve training pairs, of which two are listed as labeled and eight as unlabeled; four for validation."""
    root = tmp_path / "root"
    root.mkdir()
    write_classes(root)
    train = write_pairs(root, 12)
    write_list(root, "train.txt", train)
    write_list(root, "labeled.txt", train[:2])
    write_list(root, "unlabeled.txt", [line.split()[0] for line in train[4:]])
    write_list(root, "val.txt", write_pairs(root, 4, folder="val", first=50))
    return root


def build(base: Path, /, *, needs_unlabeled: bool = True, holdout: int = 0, **data: object) -> DataSplits:
    data.setdefault("root", str(base))
    cache = base.parent / "cache"
    config = DataConfig.model_validate(data)
    return build_data(config, seed=0, cache_dir=cache, needs_unlabeled=needs_unlabeled, holdout=holdout)


def names(dataset: Dataset | None) -> list[str]:
    assert dataset is not None
    return [dataset.name(index) for index in range(len(dataset))]


def test_lists(root: Path) -> None:
    splits = build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", val="val.txt")
    assert splits.classes.names == tuple(NAMES)
    assert names(splits.labeled) == ["images/train/000.png", "images/train/001.png"]
    assert names(splits.unlabeled) == [f"images/train/{i:03d}.png" for i in range(4, 12)]
    assert names(splits.val) == [f"images/val/{i:03d}.png" for i in range(50, 54)]
    assert splits.test is None
    assert splits.unlabeled is not None
    assert splits.unlabeled.label(0) is None
    labels = np.stack([random_label(0), random_label(1)])
    assert splits.class_frequency.tolist() == [int((labels == c).sum()) for c in range(3)]
    assert splits.class_presence.sum(axis=0).tolist() == [2, 2, 2]
    assert set(splits.lists) == set(splits.split_sha256) == {"labeled", "unlabeled", "val"}
    assert splits.lists["labeled"] == (root / "labeled.txt").read_text().splitlines()
    assert splits.lists["unlabeled"] == (root / "unlabeled.txt").read_text().splitlines()
    assert splits.split_sha256["val"] == fingerprint(names(splits.val))
    assert splits.warnings == []


def test_fingerprints_do_not_depend_on_spelling_order_or_place(root: Path) -> None:
    before = build(root, labeled="labeled.txt", unlabeled="unlabeled.txt")
    lines = [f"{root}/{line.replace(' ', f' {root}/')}" for line in (root / "labeled.txt").read_text().splitlines()]
    write_list(root, "labeled.txt", lines[::-1])
    moved = root.rename(root.parent / "moved")
    (root.parent / "root").symlink_to(moved)
    after = build(root, labeled="labeled.txt", unlabeled="unlabeled.txt")
    assert after.split_sha256 == before.split_sha256


def test_folders(root: Path) -> None:
    splits = build(root, labeled="images/train", unlabeled="images/train", val="images/val")
    assert len(splits.labeled) == len(names(splits.unlabeled)) == 12
    assert splits.lists["val"] == (root / "val.txt").read_text().splitlines()


@pytest.mark.parametrize("labeled", ["1/4", 0.25, 3, "3"])
@pytest.mark.parametrize("train", ["train.txt", "images/train"])
def test_draws(root: Path, labeled: object, train: str) -> None:
    splits = build(root, labeled=labeled, train=train, val="val.txt")
    everything = [f"images/train/{i:03d}.png" for i in range(12)]
    assert len(splits.labeled) == 3
    assert sorted(names(splits.labeled) + names(splits.unlabeled)) == everything
    assert splits.unlabeled is not None
    assert splits.unlabeled.label(0) is None
    assert names(splits.labeled) == names(build(root, labeled=3, train="images/train").labeled)
    others = [names(build(root, labeled=3, train=train, fold=fold).labeled) for fold in range(1, 4)]
    assert any(other != names(splits.labeled) for other in others)
    write_list(root, "drawn.txt", splits.lists["labeled"])
    again = build(root, labeled="drawn.txt", train=train)
    assert again.split_sha256["labeled"] == splits.split_sha256["labeled"]
    assert again.split_sha256["unlabeled"] == splits.split_sha256["unlabeled"]


def test_draw_leaves_given_unlabeled_alone(root: Path) -> None:
    assert len(names(build(root, labeled="1/2", train="train.txt", unlabeled="unlabeled.txt").unlabeled)) == 8


def test_unlabeled_labels_are_never_opened(root: Path) -> None:
    train = [line.split()[0] for line in (root / "train.txt").read_text().splitlines()]
    write_list(root, "unlabeled.txt", [f"{image} labels/none/at/all.png" for image in train[4:]])
    for index in range(4, 12):
        (root / f"labels/train/{index:03d}.png").write_text("no image")
    assert len(names(build(root, labeled="labeled.txt", unlabeled="unlabeled.txt").unlabeled)) == 8
    assert len(names(build(root, labeled="labeled.txt", train="train.txt").unlabeled)) == 10


def test_methods_without_unlabeled_data_leave_its_keys_alone(root: Path) -> None:
    for unlabeled in (None, "none.txt"):
        splits = build(root, needs_unlabeled=False, labeled="labeled.txt", unlabeled=unlabeled)
        assert splits.unlabeled is None
        assert set(splits.lists) == {"labeled"}


def test_resize_holds_everywhere(root: Path) -> None:
    splits = build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", val="val.txt", resize=[6, 8])
    for dataset in (splits.labeled, splits.unlabeled, splits.val):
        assert dataset is not None
        assert dataset.image(0).shape == (6, 8, 3)
    assert splits.class_frequency.sum() <= 2 * 6 * 8


def test_classes_elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "classes.json").rename(tmp_path / "mine.json")
    with pytest.raises(InputError, match=r"root/classes\.json: no such file"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt")
    build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", classes=str(tmp_path / "mine.json"))
    build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", classes="../mine.json")
    monkeypatch.chdir(tmp_path)
    build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", classes="mine.json")
    with pytest.raises(InputError, match=r"root/none\.json: no such file"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", classes="none.json")


def test_labeled_image_that_is_scored(root: Path) -> None:
    lines = (root / "val.txt").read_text().splitlines()
    write_list(root, "val.txt", [*lines, "./images/train/001.png labels/train/001.png"])
    with pytest.raises(InputError, match=r"labeled\.txt line 2: images/train/001\.png is .* at .*val\.txt line 5;"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", val="val.txt")
    with pytest.raises(InputError, match=r"data\.test"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", test="val.txt")


def test_warnings(root: Path) -> None:
    for index in range(2):
        save(root / f"labels/train/{index:03d}.png", np.full((12, 16), index * 2, np.uint8))
    splits = build(root, labeled="labeled.txt", unlabeled="images", val="val.txt")
    unlabeled_class, transductive = splits.warnings
    assert "class car" in unlabeled_class
    assert "4 unlabeled images are also in data.val" in transductive


def test_unreadable_unlabeled_images(root: Path) -> None:
    for index in (5, 6):
        (root / f"images/train/{index:03d}.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"unlabeled\.txt line 2: .*005\.png: is empty .*\(and 1 more fault\)"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", max_unreadable=1)
    splits = build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", max_unreadable=2)
    assert len(splits.warnings) == 2
    assert all("data.max_unreadable=2" in warning for warning in splits.warnings)


@pytest.mark.parametrize("key", ["val", "test"])
def test_scored_labels_are_decoded_at_the_start(root: Path, key: str) -> None:
    save(root / "labels/val/052.png", np.full((12, 16), 7, np.uint8))
    with pytest.raises(InputError, match=r"val\.txt line 3: .*052\.png: label ids outside .*: 7;"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", **{key: "val.txt"})
    save(root / "labels/val/052.png", random_image(0))
    with pytest.raises(InputError, match="stored in colour"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", **{key: "val.txt"})


def test_one_list_to_score(root: Path) -> None:
    config = DataConfig(root=str(root), labeled="gone.txt", unlabeled="gone.txt", val="val.txt", resize=(6, 8))
    val = build_scored(config, "val", seed=0, cache_dir=root.parent / "cache")
    assert names(val) == [f"images/val/{i:03d}.png" for i in range(50, 54)]
    assert val.image(0).shape == (6, 8, 3)
    with pytest.raises(InputError, match=r"data\.test is not set"):
        build_scored(config, "test", seed=0)
    save(root / "labels/val/052.png", np.full((12, 16), 7, np.uint8))
    with pytest.raises(InputError, match=r"val\.txt line 3: .*052\.png: label ids outside .*: 7;"):
        build_scored(config, "val", seed=0, cache_dir=root.parent / "cache")


@pytest.mark.parametrize("split", ["val", "test"])
def test_synthetic_scenes_to_score_are_those_of_the_run(root: Path, split: str) -> None:
    data = {
        "dataset": "synthetic",
        "size": (24, 32),
        "train_images": 8,
        "val_images": 3,
        "test_images": 2,
        "labeled": 1,
    }
    ours = build_scored(DataConfig.model_validate(data), split, seed=0)  # type: ignore[arg-type]
    assert names(ours) == build(root, root=None, **data).lists[split]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"root": None}, r"data\.root is not set"),
        ({"root": "/none/at/all"}, r"data\.root: /none/at/all does not exist"),
        ({"labeled": None}, r"data\.labeled is not set"),
        ({"labeled": "none.txt"}, r"data\.labeled: .*none\.txt"),
        ({"unlabeled": "none.txt"}, r"data\.unlabeled: .*none\.txt"),
        ({"unlabeled": None}, r"data\.unlabeled is not set, .*method=supervised"),
        ({"val": "none.txt"}, r"data\.val: .*none\.txt"),
        ({"labeled": "1/4"}, r"data\.train, which is not set"),
        ({"labeled": 13, "train": "train.txt"}, "13 images cannot be drawn from 12"),
        ({"labeled": 12, "train": "train.txt", "unlabeled": None}, r"nothing is left of data\.train"),
        ({"dataset": "folders"}, r"data\.dataset: no 'folders' \(did you mean folder\?\)"),
        ({"dataset": "synthetic", "labeled": "labeled.txt"}, r"'labeled\.txt' is no fraction"),
        ({"dataset": "synthetic", "labeled": 6, "train_images": 6}, "label fewer"),
    ],
)
def test_faults_of_the_configuration(root: Path, data: dict[str, object], fault: str) -> None:
    good = {"labeled": "labeled.txt", "unlabeled": "unlabeled.txt", "val": "val.txt"}
    with pytest.raises(InputError, match=fault) as caught:
        build(root, **(good | data))
    assert "\n" not in str(caught.value)


def test_root_that_is_a_file(root: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        build(root, root=str(root / "train.txt"), labeled="labeled.txt")


def test_nothing_is_written_below_the_root(root: Path) -> None:
    before = sorted(root.rglob("*"))
    build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", val="val.txt")
    assert sorted(root.rglob("*")) == before


def test_synthetic(root: Path) -> None:
    size = {"size": (24, 32), "train_images": 16, "val_images": 3, "test_images": 2}
    splits = build(root, dataset="synthetic", root=None, labeled="1/4", **size)
    assert [len(names(part)) for part in (splits.labeled, splits.unlabeled, splits.val, splits.test)] == [4, 12, 3, 2]
    assert splits.unlabeled is not None
    truth = splits.unlabeled.label(0)
    assert truth is not None  # known, though nothing may learn from it
    assert splits.unlabeled.image(0).shape == (*truth.shape, 3) == (24, 32, 3)
    labels = [splits.labeled.label(index) for index in range(4)]
    classes = range(splits.classes.num_classes)
    assert splits.class_frequency.tolist() == [sum(int((label == c).sum()) for label in labels) for c in classes]
    assert splits.class_presence.sum(axis=0).tolist() == [
        sum(bool((label == c).any()) for label in labels) for c in classes
    ]
    every = [name for lines in splits.lists.values() for name in lines]
    assert len(set(every)) == 21

    again = build(root, dataset="synthetic", root=None, labeled="1/4", **size)  # from memory
    assert again.class_frequency.tolist() == splits.class_frequency.tolist()
    assert again.split_sha256 == splits.split_sha256
    larger = build(
        root, dataset="synthetic", root=None, labeled=1, needs_unlabeled=False, **(size | {"train_images": 40})
    )
    assert larger.unlabeled is None
    assert larger.lists["val"] == splits.lists["val"]  # scored scenes stay, however many train


@pytest.mark.parametrize(
    "data",
    [
        {"labeled": "train.txt", "unlabeled": "images/train"},  # every labeled image is among the unlabeled
        {"labeled": 6, "train": "train.txt"},
        {"labeled": 6, "dataset": "synthetic", "size": [32, 40], "train_images": 12, "val_images": 1},
    ],
    ids=["list", "count", "synthetic"],
)
def test_withheld_images_are_trained_on_in_no_way(root: Path, data: dict[str, object]) -> None:
    whole, splits = build(root, **data), build(root, holdout=3, **data)
    withheld = names(splits.holdout)
    assert len(withheld) == 3
    assert whole.holdout is None
    assert "holdout" not in whole.lists
    assert sorted([*names(splits.labeled), *withheld]) == sorted(names(whole.labeled))
    assert set(names(splits.unlabeled)) == set(names(whole.unlabeled)) - set(withheld)
    assert splits.split_sha256["labeled"] == fingerprint(names(splits.labeled))
    assert [line.split()[0] for line in splits.lists["holdout"]] == withheld
    assert splits.holdout is not None
    labels = [splits.labeled.label(index) for index in range(len(splits.labeled))]
    assert splits.class_frequency.tolist() == [
        sum(int((label == c).sum()) for label in labels) for c in range(splits.classes.num_classes)
    ]
    assert splits.class_presence.sum(axis=0).max() <= len(splits.labeled)
    assert names(build(root, holdout=3, **data).holdout) == withheld


def write_pseudo_labels(root: Path, *images: int, shape: tuple[int, int] = (12, 16)) -> str:
    """A list of images with labels beside it, in which only class 1 was selected; the last label is all ignored."""
    lines = []
    for index in images:
        label = np.full(shape, 255, np.uint8)
        label[0] = 255 if index == images[-1] else 1
        save(root / f"pseudo/{index}.png", label)
        lines.append(f"images/train/{index:03d}.png pseudo/{index}.png")
    return write_list(root, "pseudo.txt", lines)


SPLITS = {"labeled": "labeled.txt", "unlabeled": "unlabeled.txt", "val": "val.txt"}


@pytest.mark.parametrize("ignore_index", [255, 7, None])
def test_pseudo_labeled_images(root: Path, ignore_index: int | None) -> None:
    write_classes(root, ignore_index=ignore_index)
    for path in root.glob("labels/*/*.png"):
        save(path, np.zeros((12, 16), np.uint8))
    listed = write_pseudo_labels(root, 4, 2, 5)
    if ignore_index == 7:  # the value that ignores in all label files
        for path in root.glob("pseudo/*.png"):
            save(path, np.where(np.array(Image.open(path)) == 255, 7, 1).astype(np.uint8))
    without = build(root, **SPLITS)
    splits = build(root, **SPLITS, pseudo_labeled=listed)
    pseudo = splits.pseudo_labeled
    assert pseudo is not None
    assert names(pseudo) == [f"images/train/{i:03d}.png" for i in (4, 2, 5)]
    label = pseudo.label(0)
    assert label is not None
    assert set(label[0].tolist()) == {1}
    assert set(label[1:].ravel().tolist()) == {255}
    assert np.array_equal(pseudo.image(0), random_image(4))
    assert splits.lists["pseudo_labeled"] == (root / "pseudo.txt").read_text().splitlines()
    assert splits.split_sha256["pseudo_labeled"] == fingerprint(names(pseudo))
    assert splits.class_frequency.tolist() == without.class_frequency.tolist()
    assert splits.class_presence.tolist() == without.class_presence.tolist()
    assert splits.lists["unlabeled"] == without.lists["unlabeled"]


def test_pseudo_labels_beside_their_list(root: Path, tmp_path: Path) -> None:
    """And not below the root, where a file of that name lies too; those that are nowhere are named."""
    below = build(root, **SPLITS, pseudo_labeled=write_pseudo_labels(root, 4, 5)).pseudo_labeled
    folder = tmp_path / "run" / "labels"
    for index in (4, 5):
        save(folder / f"pseudo/{index}.png", np.full((12, 16), 2, np.uint8))
    listed = write_list(folder, "list.txt", (root / "pseudo.txt").read_text().splitlines())
    splits = build(root, **SPLITS, pseudo_labeled=str(folder / listed))
    assert below is not None
    assert splits.pseudo_labeled is not None
    assert set(np.unique(splits.pseudo_labeled.label(0)).tolist()) == {2}
    assert 2 not in np.unique(below.label(0))
    assert splits.lists["pseudo_labeled"] == (root / "pseudo.txt").read_text().splitlines()
    for place in (folder, root):
        (place / "pseudo" / "5.png").unlink()
    with pytest.raises(InputError, match=r"pseudo/5\.png"):
        build(root, **SPLITS, pseudo_labeled=str(folder / listed))


@pytest.mark.parametrize(("shape", "resize"), [((12, 16), (6, 8)), ((6, 8), (6, 8)), ((6, 8), 6)])
def test_a_pseudo_label_may_have_the_size_after_resizing(
    root: Path, shape: tuple[int, int], resize: int | tuple[int, int]
) -> None:
    splits = build(root, **SPLITS, pseudo_labeled=write_pseudo_labels(root, 4, 5, shape=shape), resize=resize)
    assert splits.pseudo_labeled is not None
    label = splits.pseudo_labeled.label(0)
    assert label is not None
    assert splits.pseudo_labeled.image(0).shape[:2] == label.shape == (6, 8)


def test_pseudo_labeled_scenes(tmp_path: Path) -> None:
    size = {"dataset": "synthetic", "size": (24, 32), "train_images": 16, "val_images": 1, "test_images": 1}
    splits = build(tmp_path, labeled=4, **size)
    assert splits.unlabeled is not None
    scene = splits.unlabeled.name(3)
    folder = tmp_path / "pseudo"
    label = np.full((24, 32), 255, np.uint8)
    label[:5] = 2
    save(folder / "a.png", label)
    listed = str(folder / write_list(folder, "list.txt", [f"{scene} a.png"]))
    with_pseudo = build(tmp_path, labeled=4, needs_unlabeled=False, pseudo_labeled=listed, **size).pseudo_labeled
    assert with_pseudo is not None
    assert names(with_pseudo) == [scene]
    assert np.array_equal(with_pseudo.image(0), splits.unlabeled.image(3))
    assert np.array_equal(with_pseudo.label(0), label)
    faults = {
        splits.labeled.name(0): "has a label already",
        "synthetic/00016": r"none of the unlabeled scenes, synthetic/00000 to synthetic/00015",
        "synthetic/10000000": "none of the unlabeled scenes",
    }
    for name, fault in faults.items():
        write_list(folder, "list.txt", [f"{name} a.png"])
        with pytest.raises(InputError, match=f"list.txt line 1: {name} .*{fault}"):
            build(tmp_path, labeled=4, pseudo_labeled=listed, **size)
    write_list(folder, "list.txt", [f"{scene} a.png"])
    save(folder / "a.png", label[:-1])
    with pytest.raises(InputError, match=r"a\.png: the label has 32x23 pixels, its image synthetic/\d+ 32x24"):
        build(tmp_path, labeled=4, pseudo_labeled=listed, **size)
    save(folder / "a.png", label - 1)
    with pytest.raises(InputError, match=r"a\.png: label ids outside the 11 classes .*: 254; ignore_index is 255"):
        build(tmp_path, labeled=4, pseudo_labeled=listed, **size)


def test_withholding_leaves_images_to_train_on(root: Path) -> None:
    with pytest.raises(InputError, match=r"^health\.holdout: withholding 2 of 2 labeled images"):
        build(root, labeled="labeled.txt", unlabeled="unlabeled.txt", holdout=2)
    with pytest.raises(InputError, match=r"^health\.holdout: nothing is left of data\.unlabeled"):
        build(root, labeled="train.txt", unlabeled=write_list(root, "all.txt", ["images/train/000.png"]), holdout=11)


@pytest.mark.skipif(not CAMVID.exists(), reason="needs ../shared")
def test_camvid(tmp_path: Path) -> None:
    config = DataConfig(root=str(CAMVID), labeled="splits/1_30/seed0/labeled.txt", train="splits/train_all.txt")
    splits = build_data(config, seed=0, cache_dir=tmp_path)
    assert (len(splits.labeled), len(names(splits.unlabeled))) == (12, 355)
    stats = json.loads((CAMVID / "stats.json").read_text())["train"]
    drawn = build_data(
        DataConfig(root=str(CAMVID), labeled=1.0, train="splits/train_all.txt"),
        seed=0,
        cache_dir=tmp_path,
        needs_unlabeled=False,
    )
    assert drawn.class_frequency.tolist() == list(stats["pixel_count"].values())
