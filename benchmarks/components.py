"""Time and memory of the statistics, choices and losses of components, against plain loops.

    python benchmarks/components.py
    python benchmarks/components.py --device cuda --only presence

Each case has the function of the package and the code that a paper's script would have for the same: a loop over
classes or regions with a mask each, whose values the host reads. Both get the same maps of smooth noise
(2 x 19 x 769 x 769 by default, every class present, 3 % ignored) and have to give the same result. They are run
in turns in one process on one thread; times are medians, in CPU time of the process (``--device cuda``: time on
the device, until the host has the result where the code asks for it). Memory is the peak above what the inputs
take: of resident memory, each measured in a process of its own with freed memory returned to the system, or of
what torch has allocated on the device. A goal of ``>=`` is of plain / package, of ``<=`` of package / plain.

Another case is a function of ``Inputs`` for each side, one that compares their results, and a line in ``CASES``.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evenseg.components.unreliable_contrast import Cells, UnreliableContrast
from evenseg.data.allocator import keep_freed_memory
from evenseg.functional.anchors import sample_anchors
from evenseg.functional.class_statistics import class_confidence, class_presence
from evenseg.functional.component_box import component_box_from
from evenseg.functional.contrast import pixel_contrast
from evenseg.functional.enlarged_loss import enlarged_cross_entropy
from evenseg.functional.losses import entropy
from evenseg.functional.percentiles import percentiles
from evenseg.functional.pseudo_label import class_thresholds
from evenseg.functional.random import slot_noise, spread
from evenseg.types import Step

IGNORE = 255
MIN_RATIO = 0.005
RATIO, ANCHORS = 0.8, 64
SUBCLASSES = 124
QUEUED, POOL = 64, 256
U2PL: dict[str, Any] = {
    "anchors": 256,
    "confidence": 0.3,
    "negatives": 50,
    "low_rank": 3,
    "high_rank": 20,
    "temperature": 0.5,
}


class Inputs(NamedTuple):
    """logits: (B, C, H, W) of the student. label: (B, H, W) truth. log_prob: (B, H, W) that of the label, from the
    supervised loss. prediction, confidence: (B, H, W) of the teacher. uniform: (B, C) random numbers. embedding:
    (2 B, 256, h, w) of labeled and unlabeled images at stride 8, with gradient. noise: (2 B, h * w) random integers.
    subclass_logits: (B, 124, h, w) at stride 4, with gradient. subclass: (B, H, W) truth."""

    logits: Tensor
    label: Tensor
    log_prob: Tensor
    prediction: Tensor
    confidence: Tensor
    uniform: Tensor
    embedding: Tensor
    noise: Tensor
    subclass_logits: Tensor
    subclass: Tensor


class Case(NamedTuple):
    """``same`` is given the inputs and the results of ``package`` and of ``plain``."""

    name: str
    goal: str
    package: Callable[[Inputs], Any]
    plain: Callable[[Inputs], Any]
    same: Callable[[Inputs, Any, Any], bool]


def smooth_noise(batch: int, channels: int, size: int, cells: int, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(batch, channels, cells, cells, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def make_inputs(batch: int, classes: int, size: int, device: str) -> Inputs:
    """The most frequent class has some hundred times the pixels of the rarest, and a few dozen regions of all sizes."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.linspace(2.0, -2.0, classes)[:, None, None]
    coarse, fine = (smooth_noise(batch, classes, size, cells, generator) for cells in (10, 24))
    scene = 3 * coarse + fine + 1.3 * prior
    teacher, student = (scene + 1.5 * smooth_noise(batch, classes, size, 30, generator) for _ in range(2))
    label = scene.max(dim=1).indices
    void = smooth_noise(batch, 1, size, 30, generator)[:, 0]
    label[void > void.flatten().kthvalue(round(0.97 * void.numel())).values] = IGNORE
    confidence, prediction = teacher.softmax(dim=1).max(dim=1)
    for found in (label, prediction):
        assert set(range(classes)) <= set(found.unique().tolist()), "a class is missing: use larger maps"
    log_prob = -F.cross_entropy(student, label, ignore_index=IGNORE, reduction="none")
    uniform = torch.rand(batch, classes, generator=generator)
    cells = label[:, ::8, ::8].shape[1:]
    embedding = torch.randn(2 * batch, 256, *cells, generator=generator)
    noise = torch.randint(0, 2**31, (2 * batch, cells.numel()), generator=generator)
    cells = -(-size // 4)
    subclass_logits = torch.randn(batch, SUBCLASSES, cells, cells, generator=generator)
    subclass = torch.where(label == IGNORE, IGNORE, label * (SUBCLASSES // classes) + torch.arange(size) // 64 % 3)
    made = student, label, log_prob, prediction, confidence, uniform, embedding, noise, subclass_logits, subclass
    x = Inputs(*(each.to(device) for each in made))
    x.embedding.requires_grad_()
    x.subclass_logits.requires_grad_()
    return x


def confidence_plain(x: Inputs) -> list[float]:
    """Mean probability of its class over the pixels of each class."""
    prob, means = x.logits.softmax(dim=1), []
    for c in range(x.logits.shape[1]):
        mask = x.label == c
        means.append((prob[:, c] * mask).sum().item() / mask.sum().item())
    return means


def same_means(x: Inputs, package: tuple[Tensor, Tensor], plain: list[float]) -> bool:
    total, count = package
    return torch.allclose((total / count).cpu(), torch.tensor(plain), rtol=1e-4)


def softmax_and_nothing_else(x: Inputs) -> Tensor:
    return x.logits.softmax(dim=1)


def presence_plain(x: Inputs) -> list[list[bool]]:
    """A membership test for each class of each image, and its number of pixels."""
    present = []
    for image in x.prediction:
        present.append([])
        for c in range(x.logits.shape[1]):
            present[-1].append(c in image and ((image == c).sum() / image.numel()).item() >= MIN_RATIO)
    return present


def target_classes(x: Inputs) -> list[Tensor]:
    """Each class once, for all images."""
    return [torch.full((len(x.logits),), c, device=x.logits.device) for c in range(x.logits.shape[1])]


def boxes(x: Inputs, **options: Any) -> list[Tensor]:
    pixels = MIN_RATIO * x.prediction[0].numel()
    draw = x.uniform[:, :4]
    return [component_box_from(x.prediction, target, pixels, draw, **options) for target in target_classes(x)]


def boxes_plain(x: Inputs) -> list[list[list[int]]]:
    """All regions of the class, a comparison and a sum over the whole map for each; empty where none is large."""
    found = []
    for c in range(x.logits.shape[1]):
        found.append([])
        for prediction, draw in zip(x.prediction, x.uniform, strict=True):
            mask = (prediction == c).cpu().numpy()
            number, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            large = [k for k in range(1, number) if (regions == k).sum() > MIN_RATIO * mask.size]
            box = []
            if large:
                rows, columns = np.nonzero(regions == large[int(draw[0].item() * len(large))])
                box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            found[-1].append(box)
    return found


def same_boxes(x: Inputs, package: list[Tensor], plain: list[list[list[int]]]) -> bool:
    if x.prediction.device.type != "cpu":  # other regions, from every eighth pixel
        there = boxes(Inputs(*(each.cpu() for each in x)), method="propagate")
        return all(torch.equal(a.cpu(), b) for a, b in zip(package, there, strict=True))
    pairs = [pair for b, p in zip(package, plain, strict=True) for pair in zip(b.tolist(), p, strict=True)]
    assert any(p for _, p in pairs)
    return all(b == p for b, p in pairs if p)


def thresholds_plain(x: Inputs) -> list[float]:
    """A mask and a sort for each class."""
    found = []
    for c in range(x.logits.shape[1]):
        values = x.confidence[x.prediction == c].sort(descending=True).values
        found.append(values[min(int(RATIO * len(values)), len(values) - 1)].item())
    return found


def contrasted(x: Inputs) -> tuple[Tensor, Tensor]:
    """(2 B, h * w) labels of labeled and pseudo-labels of unlabeled cells, and where the student sees another class."""
    label = torch.cat([x.label, x.prediction])[:, ::8, ::8].flatten(1)
    student = x.logits[:, :, ::8, ::8].max(dim=1).indices.flatten(1)
    return label, torch.cat([student, student]) != label


def contrast(x: Inputs) -> Tensor:
    """Gradient of the contrast; the loss is a by-product."""
    label, hard = contrasted(x)
    chosen = sample_anchors(label, hard, x.noise, num_classes=x.logits.shape[1], quota=ANCHORS)
    pixels = x.embedding.permute(0, 2, 3, 1).flatten(1, 2)
    rows = pixels.gather(1, chosen.position[:, :, None].expand(-1, -1, pixels.shape[2])).flatten(0, 1)
    classes = chosen.label.flatten()
    own = torch.arange(len(classes), device=classes.device)
    loss = pixel_contrast(rows, classes, rows, classes, temperature=0.15, own_key=own)
    return torch.autograd.grad(loss, x.embedding)[0]


def contrast_plain(x: Inputs) -> Tensor:
    """A mask for each class of each image, and whole matrices of all pairs."""
    label, hard = contrasted(x)
    pixels = x.embedding.permute(0, 2, 3, 1).flatten(1, 2)
    rows, classes = [], []
    for i in range(len(label)):
        for c in label[i].unique().tolist():
            sides = [((label[i] == c) & (hard[i] == side)).nonzero().flatten() for side in (True, False)]
            sizes = [len(side) for side in sides]
            if c == IGNORE or sum(sizes) <= ANCHORS:
                continue
            first = min(max(min(sizes[0], ANCHORS // 2), ANCHORS - sizes[1]), ANCHORS)
            for side, count in zip(sides, (first, ANCHORS - first), strict=True):
                rows.append(pixels[i][side[x.noise[i][side].argsort()[:count]]])
            classes += [c] * ANCHORS
    anchor, group = F.normalize(torch.cat(rows), dim=1), torch.tensor(classes, device=label.device)
    similarity = anchor @ anchor.detach().T / 0.15
    same = (group[:, None] == group[None]).float()
    positive = same * (1 - torch.eye(len(group), device=same.device))
    exponential = similarity.exp()
    away = (exponential * (1 - same)).sum(dim=1, keepdim=True)
    pair = -torch.log(exponential / (exponential + away))
    loss = ((pair * positive).sum(dim=1) / positive.sum(dim=1)).mean()
    return torch.autograd.grad(loss, x.embedding)[0]


def unsure_cells(x: Inputs) -> Cells:
    """Labeled and pseudo-labeled cells; of the latter a fifth is trusted, and another is unsure."""
    logits = torch.cat([x.logits, x.logits])[:, :, ::8, ::8].flatten(2)
    label = torch.cat([x.label, x.prediction])[:, ::8, ::8].flatten(1)
    label = label.masked_fill(label == IGNORE, -1)
    half, unsure = len(x.label), entropy(logits.softmax(dim=1))
    low, high = percentiles(unsure[half:], label[half:] >= 0, (20, 80), ("down", "up"))
    reliable, unreliable = label >= 0, unsure >= high
    reliable[half:] &= unsure[half:] <= low
    unreliable[:half] = False
    pixels = x.embedding.permute(0, 2, 3, 1).flatten(1, 2).contiguous()
    return Cells(pixels, pixels.detach(), logits, label, reliable, unreliable, half)


def unreliable_contrast(x: Inputs) -> Tensor:
    """Gradient of the contrast with negatives, all classes at once; queues are filled by this step alone."""
    options = {"queue": QUEUED * len(x.noise), "first_queue": QUEUED * len(x.noise), "queued": QUEUED, "pool": POOL}
    contrast = UnreliableContrast(x.logits.shape[1], x.embedding.shape[1], **options, **U2PL).to(x.logits.device)
    loss = contrast(unsure_cells(x), Step(0, 1, torch.Generator()))
    return torch.autograd.grad(loss, x.embedding)[0]


def unreliable_contrast_plain(x: Inputs) -> Tensor:
    """The same with masks, orders and similarities of one class after the other."""
    cells = unsure_cells(x)
    half, pixels, classes = cells.labeled, cells.label.shape[1], x.logits.shape[1]
    device = cells.label.device
    noise = torch.cat(
        [slot_noise(0, 0, 0, half, pixels, stream=f"unreliable {each}", device=device) for each in range(2)]
    )
    draws = slot_noise(0, 0, 0, classes, POOL, stream="unreliable pool", device=device)
    order = cells.logits.sort(dim=1, descending=True).indices
    prob = cells.logits.softmax(dim=1)
    losses, present = [], 0
    for c in range(classes):
        likely = (
            (order[:half, : U2PL["low_rank"]] == c).any(dim=1) & (cells.label[:half] != c) & (cells.label[:half] >= 0)
        )
        unlikely = (order[half:, U2PL["low_rank"] : U2PL["high_rank"]] == c).any(dim=1) & cells.unreliable[half:]
        negative = []
        for image, candidate in enumerate(torch.cat([likely, unlikely])):
            found = candidate.nonzero().flatten()
            negative.append(cells.teacher[image][found[noise[image][found].argsort()[:QUEUED]]])
        queue = torch.cat(negative)
        reliable = cells.reliable & (cells.label == c)
        if reliable.sum().item() == 0:
            continue
        present += 1
        sure = reliable & (prob[:, c] > U2PL["confidence"])
        if sure.sum().item() == 0 or len(queue) == 0:
            continue
        first = noise[sure].argsort()[: U2PL["anchors"]]
        anchor, keys = cells.student[sure][first], noise[sure][first]
        centre = cells.teacher[reliable].mean(dim=0).expand(len(anchor), 1, -1)
        pool = queue[draws[c] % len(queue)]
        everything = torch.cat([centre, pool[spread(keys, U2PL["negatives"]) % POOL]], dim=1)
        similarity = torch.cosine_similarity(anchor.unsqueeze(1), everything, dim=2) / U2PL["temperature"]
        losses.append(F.cross_entropy(similarity, torch.zeros(len(anchor), dtype=torch.int64, device=device)))
    return torch.autograd.grad(torch.stack(losses).sum() / present, x.embedding)[0]


def subclass_loss(x: Inputs) -> Tensor:
    """Gradient of the cross-entropy of 124 subclasses at the size of the label, a band of rows at a time."""
    size = (x.subclass.shape[1], x.subclass.shape[2])
    loss = enlarged_cross_entropy(x.subclass_logits, x.subclass, size, ignore_index=IGNORE)
    return torch.autograd.grad(loss, x.subclass_logits)[0]


def subclass_loss_plain(x: Inputs) -> Tensor:
    enlarged = F.interpolate(x.subclass_logits, x.subclass.shape[1:], mode="bilinear", align_corners=True)
    return torch.autograd.grad(F.cross_entropy(enlarged, x.subclass, ignore_index=IGNORE), x.subclass_logits)[0]


CASES = [
    Case(
        "category confidence, log_prob given",
        ">= 10",
        lambda x: class_confidence(x.logits, x.label, log_prob=x.log_prob),
        confidence_plain,
        same_means,
    ),
    Case(
        "category confidence, over one softmax",
        "<= 1.5",
        lambda x: class_confidence(x.logits, x.label),
        softmax_and_nothing_else,
        lambda x, package, plain: same_means(x, package, confidence_plain(x)),
    ),
    Case(
        "presence of classes",
        ">= 15",
        lambda x: class_presence(x.prediction, x.logits.shape[1], min_ratio=MIN_RATIO),
        presence_plain,
        lambda x, package, plain: package.tolist() == plain,
    ),
    Case("box of a region, each class once", ">= 4", boxes, boxes_plain, same_boxes),
    Case(
        "thresholds of dynamic regions",
        ">= 5",
        lambda x: class_thresholds(x.confidence, x.prediction, RATIO, num_classes=x.logits.shape[1]),
        thresholds_plain,
        lambda x, package, plain: torch.allclose(package.cpu(), torch.tensor(plain), rtol=0, atol=2.5e-4),
    ),
    Case(
        "pixel contrast, 64 per class and image",
        ">= 1.6",
        contrast,
        contrast_plain,
        lambda x, package, plain: torch.allclose(package, plain, rtol=1e-3, atol=1e-7),
    ),
    Case(
        "contrast with negatives (U2PL)",
        ">= 4",
        unreliable_contrast,
        unreliable_contrast_plain,
        lambda x, package, plain: torch.allclose(package, plain, rtol=1e-3, atol=1e-7),
    ),
    Case(
        "subclass loss, 124 at stride 4",
        ">= 1.6",
        subclass_loss,
        subclass_loss_plain,
        lambda x, package, plain: torch.allclose(package, plain, rtol=1e-3, atol=1e-9),
    ),
]


def seconds(function: Callable[[], Any], device: str) -> float:
    if device == "cpu":
        begin = time.process_time()
        function()
        return time.process_time() - begin
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure(case: Case, x: Inputs, device: str, repetitions: int) -> tuple[float, float, bool]:
    """Median seconds of both sides, and whether their results are the same."""
    sides = (case.package, case.plain)
    same = case.same(x, *(side(x) for side in sides))
    times = [[seconds(lambda s=side: s(x), device) for side in sides] for _ in range(repetitions)]
    package, plain = (statistics.median(side) for side in zip(*times, strict=True))
    return package, plain, same


def return_freed_memory() -> None:
    """Make every large array a mapping of its own, which is gone when it is freed: peaks are then true ones."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 2**16)  # M_MMAP_THRESHOLD


def peak_bytes(function: Callable[[], Any], device: str) -> int | None:
    """Peak of memory while the function runs, above what is held before; None where it cannot be told."""
    function()  # whatever is set up at the first call
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - held
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return None
    held = _resident("VmRSS")
    function()
    return _resident("VmHWM") - held


def _resident(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def peak_elsewhere(options: argparse.Namespace, case: int, side: str) -> str:
    """MiB of one side of a case, from a process that does nothing else."""
    shape = [f"--{name}={getattr(options, name)}" for name in ("batch", "classes", "size", "device")]
    command = [sys.executable, __file__, *shape, f"--peak={case}", f"--side={side}"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    return "-" if told == "None" else f"{int(told) / 2**20:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--size", type=int, default=769)
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=["package", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.peak is not None:
        return_freed_memory()
    else:
        keep_freed_memory()  # as a training run does
    x = make_inputs(options.batch, options.classes, options.size, options.device)
    if options.peak is not None:
        side = getattr(CASES[options.peak], options.side)
        print(peak_bytes(lambda: side(x), options.device))
        return
    print(f"{'x'.join(map(str, x.logits.shape))}, {options.device}, one thread, {options.repetitions} repetitions")
    print(f"{'':38}{'package ms':>11}{'plain ms':>10}{'ratio':>8}{'goal':>8}{'':8}{'package MiB':>12}{'plain MiB':>11}")
    wrong = []
    for number, case in enumerate(CASES):
        if options.only not in case.name:
            continue
        package, plain, same = measure(case, x, options.device, options.repetitions)
        sign, goal = case.goal.split()
        ratio = plain / package if sign == ">=" else package / plain
        met = ratio >= float(goal) if sign == ">=" else ratio <= float(goal)
        memory = [] if options.no_memory else [peak_elsewhere(options, number, side) for side in ("package", "plain")]
        row = f"{case.name:38}{1e3 * package:11.2f}{1e3 * plain:10.2f}{ratio:8.2f}{case.goal:>8}"
        print(row + f"{'met' if met else 'MISSED':>8}" + "".join(f"{each:>12}" for each in memory), flush=True)
        wrong += [] if same else [case.name]
    if wrong:
        sys.exit(f"different results: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
