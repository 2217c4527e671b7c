"""How close estimated precision comes to the truth, and what watching the pseudo-labels costs.

    evenseg train synthetic --output runs/synthetic
    python benchmarks/health.py runs/synthetic
    python benchmarks/health.py runs/synthetic --pool 640 --held-out 64 128 320

Takes a finished run on synthetic scenes, whose truth is known everywhere. With the networks of its last checkpoint,
fresh scenes are labelled as held-out images are at a validation, and all unlabeled images as well; the precision of the
latter is the truth. Then held-out images and half as many unlabeled ones are drawn from the two pools again and again,
and each draw gives an estimate. Columns: what the estimate was asked of (``qualified``: draws with 1,000 pseudo-labels
of the class in 10 images), how often an interval and an estimate were given, how often the interval held the truth, and
how often the estimate was within 5 points of it. Costs are CPU seconds of the process, on one thread.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from evenseg.config import Config, override_config
from evenseg.data.allocator import keep_freed_memory
from evenseg.data.build import build_data
from evenseg.data.synthetic import SyntheticStreets
from evenseg.metrics.held_out_counts import HeldOutCounts
from evenseg.metrics.precision_estimate import SURE_IMAGES, SURE_PIXELS, estimate_precision
from evenseg.training import checkpoint
from evenseg.training.build import build_method
from evenseg.training.fabric import make_fabric
from evenseg.training.folder import facts_of, read_run
from evenseg.training.held_out import HeldOut, views_due
from evenseg.training.probe import probe_step, random_batch

FIRST = 30_000_000  # scenes that are in no list of a run


def pools(config: Config, folder: Path, views: int) -> tuple[HeldOutCounts, HeldOutCounts, tuple[str, ...], float]:
    """Counts of fresh scenes and of unlabeled images, class names, and CPU seconds of a view."""
    splits = build_data(config.data, seed=config.seed)
    method = build_method(config, facts_of(splits).data(config), weights=None)
    method.load_state_dict(checkpoint.load(folder / "checkpoints" / "last.ckpt")["method"])
    looker = HeldOut(method.train(), splits, config, make_fabric(config.train))
    fresh = SyntheticStreets(seed=config.seed, first=FIRST, count=views, size=config.data.size)
    assert splits.unlabeled is not None
    begin = time.process_time()
    held = looker.counts(fresh, "health held-out", views, config.train.steps)
    unlabeled = looker.counts(splits.unlabeled, "health unlabeled", views, config.train.steps)
    return held, unlabeled, splits.classes.names, (time.process_time() - begin) / (2 * views)


def precision(counts: HeldOutCounts) -> Tensor:
    return counts.right.sum(dim=(0, 2)) / counts.kept.sum(dim=(0, 2))


def accuracy(held: HeldOutCounts, unlabeled: HeldOutCounts, names: tuple[str, ...], images: int, draws: int) -> None:
    generator = torch.Generator().manual_seed(images)
    truth = precision(unlabeled)
    found = []
    for _ in range(draws):
        mine = torch.randperm(len(held.kept), generator=generator)[:images]
        others = torch.randperm(len(unlabeled.kept), generator=generator)[: images // 2]
        found.append(estimate_precision(held.kept[mine], held.right[mine], unlabeled.kept[others]))
    value, low, high, shown, pixels = (torch.stack(each) for each in zip(*found, strict=True))
    print(f"\n{images} held-out and {images // 2} unlabeled images, {draws} draws; %")
    head = ("qualified", "interval", "width", "holds truth", "estimate", "within 5 points")
    print(f"{'class':14}{'truth':>7}{'held-out':>10}" + "".join(f"{name:>17}" for name in head))
    for c, name in enumerate(names):
        qualified = (shown[:, c] >= SURE_IMAGES) & (pixels[:, c] >= SURE_PIXELS)
        told, sure = low[:, c].isfinite(), value[:, c].isfinite()
        cells = [
            qualified.double().mean(),
            told.double().mean(),
            (high - low)[told, c].mean(),
            ((low[:, c] <= truth[c]) & (truth[c] <= high[:, c]))[told].double().mean(),
            sure.double().mean(),
            ((value[:, c] - truth[c]).abs() <= 0.05)[sure].double().mean(),
        ]
        row = "".join(f"{'-' if cell.isnan() else f'{100 * cell:.0f}':>17}" for cell in cells)
        print(f"{name:14}{100 * truth[c]:7.1f}{100 * precision(held)[c]:10.1f}{row}", flush=True)


def cpu_seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def costs(config: Config, classes: int, view: float) -> None:
    """The share of training that examined steps and looks take."""
    take = probe_step(config, classes)
    raw = random_batch(config, classes, take.method.wanted_views())
    first, every = take.method.supervised_steps, config.health.every
    begin = first + every - first % every
    plain, examined = [], []
    for repetition in range(12):
        step = begin + every * repetition
        seconds = [cpu_seconds(lambda i=index: take(i, [raw])) for index in (step + 1, step)]
        if repetition >= 2:  # the first ones allocate
            plain.append(seconds[0])
            examined.append(seconds[1])
    bare, extra = statistics.median(plain), statistics.median(examined) - statistics.median(plain)
    steps, points = config.train.steps, config.train.validate_every
    looks = sum(sum(views_due(done, config, first)) for done in {*range(points, steps, points), steps})
    training = (steps - first) * bare
    print(f"\na step {bare:.3f} s, an examined one {extra:.3f} s more, a view {view:.4f} s; {looks} views in the run")
    print(
        f"examined steps {100 * extra / every / bare:.2f} %, looks {100 * looks * view / training:.2f} % of the steps"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pool", type=int, default=320, help="views of fresh and of unlabeled images")
    parser.add_argument("--held-out", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--draws", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    logging.disable(logging.WARNING)
    config = override_config(read_run(options.run)[0], ["train.accelerator=cpu"])
    held, unlabeled, names, view = pools(config, options.run, options.pool)
    costs(config, len(names), view)
    for images in options.held_out:
        accuracy(held, unlabeled, names, images, options.draws)


if __name__ == "__main__":
    main()
