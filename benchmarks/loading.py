"""How fast images become batches: decode, geometry and colour apart, and whole chains, per core.

    python benchmarks/loading.py [--repetitions 9] [--images 8] [--folder KEEP_FILES_HERE]

Writes photo-like files itself: 2048x1024 PNG of about 2.3 MB with label maps (Cityscapes-like) and
500x375 JPEG of about 92 KB (VOC-like). Every figure is CPU time of this one process with one thread,
per image, the median over repetitions; files are in the page cache. The last lines run the loader
with a worker process and count what the training process itself does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from evenseg.config import DataConfig, StrongConfig
from evenseg.data import image_io
from evenseg.data.allocator import keep_freed_memory
from evenseg.data.batches import RawBatch, stack, to_batch
from evenseg.data.cache import CachedDataset, fill_cache
from evenseg.data.classes import Classes, palette
from evenseg.data.dataset import Dataset, DataSplits
from evenseg.data.folder import FolderDataset
from evenseg.data.geometry import WeakSpec, weak_view
from evenseg.data.lists import Entry
from evenseg.data.loaders import build_loader
from evenseg.data.micro_batches import MicroBatches, Source
from evenseg.data.samplers import Share, Stream
from evenseg.data.views import strong_views
from evenseg.types import ViewSpec

CLASSES = Classes(tuple(f"class {index}" for index in range(19)), palette(19))
SCALE, FLIP = (0.5, 2.0), 0.5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--repetitions", type=int, default=9)
    arguments.add_argument("--images", type=int, default=8, help="files of each kind")
    arguments.add_argument("--folder", type=Path, help="where to put the files (default: a temporary folder)")
    given = arguments.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()  # as workers do
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        streets = write_files(folder / "streets", given.images, (1024, 2048), ".png", 2.3e6)
        photos = write_files(folder / "photos", given.images, (375, 500), ".jpg", 92e3)
        print(
            f"{given.images} files each: {describe(streets)} and {describe(photos)}; one thread, CPU time per image\n"
        )
        print(f"{'':58} {'ms':>7} {'images/s':>9} {'goal':>6}")
        for row in measurements(streets, photos, folder / "cache"):
            milliseconds = median_milliseconds(row.work, row.images, given.repetitions)
            goal = f"{row.goal:6}{'  missed' if 1000 / milliseconds < row.goal else ''}" if row.goal else ""
            print(f"{row.name:58} {milliseconds:7.2f} {1000 / milliseconds:9.0f} {goal}", flush=True)
        print()
        training_process(photos)


class Row(NamedTuple):
    """One line of the table: ``work`` handles ``images`` images each time it is called."""

    name: str
    work: Callable[[], object]
    images: int
    goal: int = 0  # images per second and core


def measurements(streets: FolderDataset, photos: FolderDataset, cache: Path) -> Iterator[Row]:
    count = len(streets)
    everything = range(count)
    yield Row("decode   PNG 2048x1024", lambda: [streets.image(index) for index in everything], count)
    yield Row("decode   its label", lambda: [streets.label(index) for index in everything], count)
    yield Row("decode   JPEG 500x375", lambda: [photos.image(index) for index in everything], count)

    for name, dataset, crop in (("2048x1024", streets, 768), ("2048x1024", streets, 801), ("500x375", photos, 321)):
        yield Row(f"geometry {name} + label -> {crop}", geometry(dataset, crop), 64)

    strong = StrongConfig()
    for policy in ("color", "randaugment"):
        for crop, batch in ((321, 8), (768, 4)):
            config = strong.model_copy(update={"policy": policy})
            yield Row(f"colour   one strong view, {policy}, {crop}", colour(config, crop, batch), 16 * batch)

    for crop in (768, 801):
        yield Row(f"chain    PNG + label, weak {crop}", labeled_chain(streets, crop), 3 * count, 18)
    yield Row("chain    JPEG, weak + 2 strong views 321", unlabeled_chain(photos, 321, strong, 2), 16 * count, 270)
    yield Row("chain    JPEG, weak 321", unlabeled_chain(photos, 321, strong, 0), 16 * count)

    cached = [CachedDataset(dataset, cache) for dataset in (streets, photos)]
    fill_cache(cached)
    for crop in (768, 801):
        yield Row(f"cached   2048x1024 + label, weak {crop}", labeled_chain(cached[0], crop), 16 * count, 250)
    yield Row("cached   500x375, weak 321", unlabeled_chain(cached[1], 321, strong, 0), 32 * count, 2000)
    yield Row("cached   500x375 + label, weak 321", labeled_chain(cached[1], 321), 32 * count)
    yield Row("cached   500x375, weak + 2 strong views 321", unlabeled_chain(cached[1], 321, strong, 2), 16 * count)


def spec(crop: int) -> WeakSpec:
    return WeakSpec((crop, crop), SCALE, FLIP)


def geometry(dataset: Dataset, crop: int) -> Callable[[], object]:
    """Weak views of images that are in memory, 64 draws: enough for the mean over scales to settle."""
    image, label = dataset.image(0), dataset.label(0)
    assert label is not None
    stream = Stream(0, "labeled", 1)
    return lambda: [weak_view(image, {"label": label}, stream.generator(draw), spec(crop)) for draw in range(64)]


def colour(config: StrongConfig, crop: int, batch: int) -> Callable[[], object]:
    image = torch.rand(batch, crop, crop, 3).permute(0, 3, 1, 2)
    return lambda: [strong_views(image, config, 1, seed=0, step=step, first_slot=0) for step in range(16)]


def labeled_chain(dataset: Dataset, crop: int) -> Callable[[], object]:
    """What a worker does for labeled micro-batches; every call takes other draws, the same in every run."""
    count = len(dataset)
    items = MicroBatches(Source(dataset, Stream(0, "labeled", count), Share(count), spec(crop)), None)
    repeats = 3 if isinstance(dataset, FolderDataset) else 16 if crop > 400 else 32
    return lambda: [items[step, 0] for step in range(repeats)]


def unlabeled_chain(dataset: Dataset, crop: int, strong: StrongConfig, views: int) -> Callable[[], object]:
    """From files to float views, worker and training process together, or (0 views) the worker's part."""
    count, stream = len(dataset), Stream(0, "unlabeled", len(dataset))
    nothing = torch.empty(0, crop, crop, 3, dtype=torch.uint8)
    repeats = 16 if views or isinstance(dataset, FolderDataset) else 32

    def batch(step: int) -> object:
        draws = range(step * count, (step + 1) * count)
        seen = [weak_view(dataset.image(stream.index(draw)), {}, stream.generator(draw), spec(crop)) for draw in draws]
        image, valid = stack([view.image for view in seen]), stack([view.valid for view in seen])
        if not views:
            return image, valid
        index = torch.arange(count)
        raw = RawBatch(nothing, nothing[..., 0], index[:0], {}, image, valid, index)
        return to_batch(raw, "cpu", strong=strong, views=ViewSpec(views), seed=0, step=step)

    return lambda: [batch(step) for step in range(repeats)]


def median_milliseconds(work: Callable[[], object], images: int, repetitions: int) -> float:
    work()
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start) / images)
    return statistics.median(times)


def training_process(photos: FolderDataset) -> None:
    """Run the real loader with a worker; count decoding and CPU time in this process."""
    decoded: list[int] = []
    original = image_io.Image.open
    image_io.Image.open = lambda *args, **kwargs: (decoded.append(os.getpid()), original(*args, **kwargs))[1]
    config = DataConfig(crop=(321, 321), scale=SCALE, flip=FLIP, workers=1)
    zero = np.zeros(CLASSES.num_classes, np.int64)
    splits = DataSplits(CLASSES, photos, photos, None, None, zero, zero, {}, {}, [])
    loader = build_loader(splits, config, seed=0, views=ViewSpec(2), labeled_batch=8, unlabeled_batch=8, last_step=40)
    busy = []
    for _ in range(40):
        start = time.process_time()
        next(loader)
        busy.append(time.process_time() - start)
    loader.close()
    image_io.Image.open = original
    print(f"training process, one worker: {len(decoded)} of 960 files decoded here,", end=" ")
    print(f"{1000 * statistics.median(busy) / 16:.3f} ms of CPU per image to receive a batch")


def write_files(folder: Path, count: int, size: tuple[int, int], suffix: str, target: float) -> FolderDataset:
    """Photo-like images of about ``target`` bytes each, with label maps."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    entries = []
    for index in range(count):
        image, label = folder / f"{index}{suffix}", folder / f"{index}_label.png"
        image.write_bytes(encode_near(photo(rng, *size), rng, suffix, target))
        cv2.imwrite(str(label), label_map(rng, *size))
        entries.append(Entry(image.name, label.name, str(folder)))
    return FolderDataset(folder, entries, CLASSES)


def photo(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of which each octave has half the amplitude of the coarser one, like the spectrum of photos."""
    image = np.full((height, width, 3), 110.0, np.float32)
    cells, amplitude = 2, 60.0
    while cells < height:
        grain = rng.normal(size=(cells, 2 * cells, 3)).astype(np.float32)
        grain = 0.85 * grain.mean(axis=2, keepdims=True) + 0.15 * grain  # mostly grey, as the world is
        image += amplitude * cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, amplitude = cells * 2, amplitude * 0.55
    return image


def encode_near(image: np.ndarray, rng: np.random.Generator, suffix: str, target: float) -> bytes:
    """Add as much sensor noise as it takes to reach the file size."""
    noise = rng.normal(size=image.shape).astype(np.float32)
    low, high = 0.0, 40.0
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if suffix == ".jpg" else []
    for _ in range(8):
        strength = (low + high) / 2
        pixels = (image + strength * noise).clip(0, 255).astype(np.uint8)
        encoded = cv2.imencode(suffix, pixels, options)[1].tobytes()
        low, high = (strength, high) if len(encoded) < target else (low, strength)
    return encoded


def label_map(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.normal(size=(CLASSES.num_classes, 12, 24)).astype(np.float32)
    scores = [cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse]
    return np.argmax(scores, axis=0).astype(np.uint8)


def describe(dataset: FolderDataset) -> str:
    height, width = dataset.image(0).shape[:2]
    size = statistics.mean(dataset.files(index)[0].stat().st_size for index in range(len(dataset)))
    return f"{width}x{height} {dataset.files(0)[0].suffix[1:].upper()} of {size / 1000:.0f} KB"


if __name__ == "__main__":
    main()
