"""Pictures for the pages of methods: what the student was shown, and what a method remembered.

    python scripts/method_pictures.py samples runs/synthetic-ael --output docs/images/ael_samples.png
    python scripts/method_pictures.py values runs/camvid-ael class_confidence --output docs/images/ael_values.png
    python scripts/method_pictures.py distribution pseudo st-0.2 dars-0.2 --output docs/images/dars_distribution.png
    python scripts/method_pictures.py subclasses runs/synthetic-usrn 3 --output docs/images/usrn_subclasses.png

``samples`` loads one further step of a finished run and draws, for each slot: the labeled image, a second one where
the method pastes, what the student sees of the two; the unlabeled image, its partner where there is one, the mixture
that the student sees and what it is taught there. ``values`` draws what the method has logged for every class.
``distribution`` draws the shares of the classes in pseudo-labels of `evenseg pseudo-label` beside the labeled ones.
``subclasses`` draws the pixels of the classes and of the subclasses that the recipe usrn has divided them into, and
so many of the labeled images with both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from evenseg.components.requests import LAG
from evenseg.config import Config
from evenseg.data.build import build_data
from evenseg.data.loaders import build_loader, to_batch
from evenseg.functional import random
from evenseg.methods.base import Method
from evenseg.training import checkpoint
from evenseg.training.build import build_method
from evenseg.training.folder import RunFacts, facts_of, read_run
from evenseg.types import Batch, Step, StepOutput

matplotlib.use("agg")
SLOTS = 4


def next_step(run: Path) -> tuple[Batch, Batch, StepOutput, np.ndarray]:
    """The batch of the step after the last one as it was loaded and as components left it, the output, the palette."""
    config, _ = read_run(run)
    splits = build_data(config.data, seed=config.seed)
    method = build_method(config, facts_of(splits).data(config), weights=None)
    method.load_state_dict(checkpoint.load(run / "checkpoints" / "last.ckpt")["method"])
    batch, step = loaded(method, config)
    seen: list[Batch] = []
    taught = method.training_step
    method.training_step = lambda prepared, at: seen.append(prepared) or taught(prepared, at)  # type: ignore[method-assign]
    output = method.train()(batch, step)
    return batch, seen[0], output, np.array(splits.classes.colors, dtype=np.uint8)


def loaded(method: Method, config: Config) -> tuple[Batch, Step]:
    """The batch after the last step, with the images that the method has asked for."""
    index, views = config.train.steps, method.wanted_views()
    loader = build_loader(
        build_data(config.data, seed=config.seed),
        config.data.model_copy(update={"workers": 0}),
        seed=config.seed,
        views=views,
        labeled_batch=config.train.labeled_batch,
        unlabeled_batch=config.train.unlabeled_batch,
        first_step=index,
        last_step=index + 1,
        asked={source: each.images_at for source, each in method.requests().items()},
        lag=LAG,
    )
    _, _, raw = next(loader)
    batch = to_batch(raw, "cpu", strong=config.data.strong, views=views, seed=config.seed, step=index)
    return batch, Step(index, index + 1, random.generator(config.seed, "step", index), config.seed, picture=True)


def draw_samples(run: Path, output: Path) -> None:
    """A row for each slot."""
    batch, prepared, result, colors = next_step(run)
    if batch.unlabeled is None or result.seen is None:
        raise SystemExit(f"{run}: its method uses no unlabeled images")
    slots = len(batch.labeled.image)
    columns: dict[str, Tensor] = {"labeled": batch.labeled.image}
    if batch.labeled.paste is not None:
        columns["second image"] = batch.labeled.paste.image
        columns["after pasting"] = prepared.labeled.image
    columns["its label"] = prepared.labeled.label
    columns["unlabeled"] = batch.unlabeled.weak[:slots]
    if len(batch.unlabeled.weak) > slots:
        columns["partner"] = batch.unlabeled.weak[slots:]
    columns["mixture"], columns["what is taught"] = result.seen
    rows = min(slots, SLOTS)
    figure, axes = plt.subplots(rows, len(columns), figsize=(1.9 * len(columns), 1.55 * rows), squeeze=False)
    for column, (title, values) in enumerate(columns.items()):
        for row in range(rows):
            axes[row][column].imshow(picture(values[row], colors))
            axes[row][column].axis("off")
        axes[0][column].set_title(title, fontsize=9)
    figure.tight_layout(pad=0.4)
    save(figure, output)


def save(figure: Figure, output: Path) -> None:
    """With a palette of 256 colours, a third of the size."""
    figure.savefig(output, dpi=90)
    Image.open(output).convert("RGB").quantize(256).save(output, optimize=True)


def picture(values: Tensor, colors: np.ndarray) -> np.ndarray:
    """(3, H, W) images, or (H, W) labels in the colours of their classes; ignored pixels white."""
    if values.ndim == 3:
        return values.permute(1, 2, 0).clamp(0, 1).numpy()
    palette = np.concatenate([colors, np.full((1, 3), 255, np.uint8)])
    return palette[np.where(values.numpy() < len(colors), values.numpy(), len(colors))]


def draw_values(run: Path, names: list[str], output: Path) -> None:
    """A chart for each value, a line for each class."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    classes = json.loads((run / "classes.json").read_text(encoding="utf-8"))
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        logged = [line for line in lines if f"per_class_{name}" in line]
        if not logged:
            raise SystemExit(f"{run}: no {name} in metrics.jsonl")
        for label, color in zip(classes["names"], classes["colors"], strict=True):
            values = [line[f"per_class_{name}"][label] for line in logged]
            style = "--" if label in classes["tail"] else "-"
            axis.plot(
                [line["step"] for line in logged], values, style, color=np.array(color) / 255, label=label, lw=1.4
            )
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_xlabel("step", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
    axes[0][-1].legend(
        fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), title="dashed: tail", title_fontsize=7
    )
    figure.tight_layout(pad=0.6)
    save(figure, output)


def draw_distribution(folder: Path, names: list[str], output: Path) -> None:
    """Bars of the share of every class, from the most frequent on: labeled, and of each choice of pseudo-labels."""
    reports = {name: json.loads((folder / name / "report.json").read_text(encoding="utf-8")) for name in names}
    first = reports[names[0]]["classes"]
    classes = sorted(first, key=lambda label: -first[label]["prior"])
    rows = {"labeled": [first[label]["prior"] for label in classes]}
    rows |= {name: [each["classes"][label]["share"] for label in classes] for name, each in reports.items()}
    figure, axis = plt.subplots(figsize=(8.5, 3.2))
    width = 0.85 / len(rows)
    for number, (name, shares) in enumerate(rows.items()):
        place = np.arange(len(classes)) + (number - (len(rows) - 1) / 2) * width
        color = "black" if name == "labeled" else f"C{number - 1}"
        axis.bar(place, np.array(shares) * 100, width, label=name, color=color)
    axis.set_yscale("log")
    axis.set_ylim(0.01, 100)
    axis.set_ylabel("share of the pixels, %", fontsize=9)
    axis.set_xticks(np.arange(len(classes)), [label.replace("_", " ") for label in classes], rotation=30, fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(fontsize=8, ncols=len(rows), loc="upper right")
    figure.tight_layout(pad=0.6)
    save(figure, output)


def draw_subclasses(run: Path, images: int, output: Path) -> None:
    """Pixels of classes and subclasses above, so many images with both below."""
    config, facts = read_run(run)
    folder = run / "stages" / "cluster"
    known = json.loads((folder / "subclasses.json").read_text(encoding="utf-8"))
    pixels = json.loads((folder / "report.json").read_text(encoding="utf-8"))["classes"]
    figure = plt.figure(figsize=(8.5, 2.6 + 2.15 * images), layout="constrained")
    grid = figure.add_gridspec(1 + images, 6, height_ratios=[1.2] + [1.0] * images)
    before = {name: sum(each["pixels"]) for name, each in pixels.items()}
    names = sorted(before, key=lambda name: -before[name])
    order = [(name, count) for name in names for count in sorted(pixels[name]["pixels"], reverse=True)]
    of_classes, of_subclasses = figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])
    of_classes.bar(range(len(names)), [before[name] for name in names], color=[_color(facts, name) for name in names])
    of_classes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=40, fontsize=7)
    of_classes.set_title("labeled pixels of each class", fontsize=9)
    numbers = range(len(order))
    of_subclasses.bar(numbers, [count for _, count in order], 1.0, color=[_color(facts, name) for name, _ in order])
    of_subclasses.set_title(f"of each of {len(order)} subclasses, in the colour of its class", fontsize=9)
    of_subclasses.set_xticks([])
    for axis in (of_classes, of_subclasses):
        axis.set_yscale("log")
        axis.set_ylim(min(count for _, count in order) / 2, 2 * max(before.values()))
        axis.tick_params(axis="y", labelsize=7)
    labeled = build_data(config.data, seed=config.seed).labeled
    maps = [files[0] for files in known["maps"].values()]
    for row, index in enumerate(np.linspace(0, len(maps) - 1, images).round().astype(int), start=1):
        subclass = np.array(Image.open(folder / maps[index]))
        shown = (labeled.image(index), *_shaded(subclass, known["counts"], np.array(facts.classes.colors, np.uint8)))
        for column, (title, one) in enumerate(zip(("image", "classes", "subclasses"), shown, strict=True)):
            axis = figure.add_subplot(grid[row, 2 * column : 2 * column + 2])
            axis.imshow(one)
            axis.axis("off")
            if row == 1:
                axis.set_title(title, fontsize=9)
    save(figure, output)


def _color(facts: RunFacts, name: str) -> np.ndarray:
    return np.array(facts.classes.colors[facts.classes.names.index(name)]) / 255


def _shaded(subclass: np.ndarray, counts: list[int], colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) subclasses in the colours of their classes, and in shades of these from dark to light."""
    shades = [
        np.clip(color * bright + 255 * max(bright - 1, 0) * 0.6, 0, 255)
        for color, count in zip(colors.astype(float), counts, strict=True)
        for bright in (np.linspace(0.45, 1.55, count) if count > 1 else [1.0])
    ]
    plain = np.repeat(colors, counts, axis=0)
    white = np.full((1, 3), 255, np.uint8)
    at = np.minimum(subclass, len(plain))
    return np.concatenate([plain, white])[at], np.concatenate([np.array(shades, np.uint8), white])[at]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["samples", "values", "distribution", "subclasses"])
    parser.add_argument("run", type=Path)
    parser.add_argument("names", nargs="*", help="values logged by class; folders of labels; or a number of images")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "samples":
        draw_samples(options.run, options.output)
    elif options.what == "values":
        draw_values(options.run, options.names, options.output)
    elif options.what == "subclasses":
        draw_subclasses(options.run, int(*options.names), options.output)
    else:
        draw_distribution(options.run, options.names, options.output)


if __name__ == "__main__":
    main()
