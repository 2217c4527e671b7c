"""Time, memory and disk of the pseudo-label engine on large images, with a network that costs nothing.

    python benchmarks/pseudo_label.py --images 100 500 2000

Each number of images is labeled in a process of its own, on one thread: 2048 x 1024 pixels and 19 classes by default.
The stub network hands out logits that were made before, at a quarter of the resolution, a few different images in
turns. Reported are CPU seconds per image of the first pass (softmax, codes, histogram, compression), of a choice by
DARS with its labels, and of a second choice with another ratio, with the pixels per second of the first two together
and the seconds of the second ratio in all; how far resident memory rose above that of the process after one small
image; disk, of which the folder is emptied before the next number. Beside it, where it still fits: keeping all
confidences as float32 and sorting them per class.

With ``--size 64 128`` an image takes no memory to speak of, and what is left is the state. Linux only: resident memory
is read there every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F

from evenseg.data.classes import Classes, palette
from evenseg.stages.pseudo_label.images import Images
from evenseg.stages.pseudo_label.label import Labeling
from evenseg.stages.pseudo_label.predict import Outcome
from evenseg.stages.pseudo_label.rules import Rule

DIFFERENT = 2  # images of logits, 160 MB each
SORTED_AT_MOST = 100  # images whose confidences are kept and sorted, 16 MB each with a sorted copy of the largest class

Logits = Callable[[Iterable[int]], Iterator[Outcome]]


def stub(size: tuple[int, int], classes: int) -> list[torch.Tensor]:
    """Logits of some images, in which some classes are rare."""
    made = []
    for seed in range(DIFFERENT):
        g = torch.Generator().manual_seed(seed)
        coarse = 4 * torch.randn(1, classes, size[0] // 64, size[1] // 64, generator=g)
        fine = F.interpolate(coarse, size=(size[0] // 4, size[1] // 4), mode="bilinear")
        fine += 0.5 * torch.randn(fine.shape, generator=g) - torch.arange(classes)[:, None, None] / 4
        made.append(3 * F.interpolate(fine, size=size, mode="bilinear")[0])
    return made


def measure(count: int, size: tuple[int, int], num_classes: int) -> dict[str, float]:
    """Figures of one number of images, in this process."""
    torch.set_num_threads(1)
    label(1, (64, 128), num_classes)  # whatever is loaded or made once
    found = label(count, size, num_classes)
    pixels = count * size[0] * size[1]
    found["pixels per second"] = size[0] * size[1] / (found["predict"] + found["choose"])
    found["second ratio in all"] = count * found["choose again"]
    found["disk bytes per pixel"] /= pixels
    found["labels bytes per pixel"] /= pixels
    if count <= SORTED_AT_MOST:
        found.update(sort_everything(_logits(size, num_classes), count, num_classes))
    return found


def label(count: int, size: tuple[int, int], num_classes: int) -> dict[str, float]:
    """Labels ``count`` images by the engine; disk is in bytes."""
    names = tuple(f"{number:06d}" for number in range(count))
    classes = Classes(tuple(f"class {i}" for i in range(num_classes)), palette(num_classes))
    prior = torch.logspace(0, -3, num_classes, dtype=torch.float64)
    logits = _logits(size, num_classes)
    found: dict[str, float] = {}
    with Watch() as watch, tempfile.TemporaryDirectory() as folder:
        labeling = Labeling(Path(folder), Images(names, names), classes)
        start = time.process_time()
        histogram = labeling.predict(logits, None)
        found["predict"] = (time.process_time() - start) / count
        for name, ratio in (("choose", 0.2), ("choose again", 0.5)):
            start = time.process_time()
            selected = labeling.select(histogram, Rule(ratio=ratio), prior, name=name, seed=0)
            found[name] = (time.process_time() - start) / count
            found[f"kl {ratio}"] = float(selected.report["kl_smoothed"])
        found["memory MB"] = watch.rise()
        found["disk bytes per pixel"] = _size(Path(folder) / "predictions")
        found["labels bytes per pixel"] = _size(Path(folder) / "choose again")
    return found


def sort_everything(logits: Logits, count: int, num_classes: int) -> dict[str, float]:
    """The thresholds by keeping the confidences of all pixels and sorting those of each class."""
    with Watch() as watch:
        start = time.process_time()
        kept: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
        for outcome in logits(range(count)):
            assert not isinstance(outcome, str)
            value, predicted = outcome[0].softmax(dim=0).max(dim=0)
            for index in range(num_classes):
                kept[index].append(value[predicted == index].numpy())
        for each in kept:
            np.sort(np.concatenate(each))
        return {"sorting": (time.process_time() - start) / count, "sorting MB": watch.rise()}


def _logits(size: tuple[int, int], num_classes: int) -> Logits:
    made = stub(size, num_classes)
    return lambda numbers: ((made[number % DIFFERENT], size) for number in numbers)


class Watch:
    """Looks every 20 ms at how much memory is resident, without the pages of libraries, which come and go as the
    machine likes and which the kernel's own peak includes."""

    def __enter__(self) -> Self:
        self.before = self.peak = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def rise(self) -> float:
        """Of the peak above what was resident in the beginning, in MB."""
        return self.peak - self.before

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, _resident())


def _resident() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024 / 1e6


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.images[0], tuple(options.size), options.classes)))
        return
    for count in options.images:
        command = [sys.executable, __file__, "--one", "--images", str(count), "--classes", str(options.classes)]
        command += ["--size", *map(str, options.size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{count} images: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
