"""What unlabeled images bring: trains `supervised` and `cutmix_seg` on the same few labels of the synthetic streets.

Run by `make demo` from the root of the repository. Writes two runs and predictions.png into demo/, and prints a
table. A second run continues an interrupted one, or shows the finished one again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import tile_sheet
from PIL import Image
from rich.console import Console
from rich.table import Table

from evenseg.data.build import build_scored
from evenseg.data.dataset import Dataset
from evenseg.training.folder import read_run
from evenseg.training.use import load_method, predictor_of

OUTPUT = Path("demo")
CONFIG = "synthetic"
# what the config says of the method holds for both, so that only the unlabeled images differ
METHODS = {
    "supervised": ["method={name: supervised, ema_decay: 0.99, supervised_loss: class_weighted}"],
    "cutmix_seg": [],
}
EXAMPLES = 6


def main() -> int:
    """Train, tabulate, draw."""
    console = Console()
    for name, overrides in METHODS.items():
        command = ["evenseg", "train", CONFIG, *overrides, "--output", str(OUTPUT / name)]
        console.print(f"\n{shlex.join(command)}", style="bold", highlight=False, markup=False, soft_wrap=True)
        code = _run([sys.executable, "-m", *command])
        if code:
            console.print("Stopped. Run `make demo` again to continue." if code in (130, 143) else "The demo failed.")
            return code
    results = {name: json.loads((OUTPUT / name / "result.json").read_text(encoding="utf-8")) for name in METHODS}
    console.print()
    console.print(gain_table(results))
    picture = OUTPUT / "predictions.png"
    draw_predictions().save(picture)
    console.print(f"\nPredictions side by side: {picture}", highlight=False)
    return 0


def _run(command: list[str]) -> int:
    """Exit code of a command. Ctrl-C reaches it as well; it saves its run, and is waited for."""
    with subprocess.Popen(command) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue


def gain_table(results: dict[str, dict[str, Any]]) -> Table:
    """IoU in percent of every class and on average, for both methods, and the gain."""
    _, facts = read_run(OUTPUT / "cutmix_seg")
    share = facts.class_frequency / facts.class_frequency.sum()
    table = Table(title="IoU on the test images, per cent")
    for column in ("class", "labeled pixels", *results, "gain"):
        table.add_column(column, justify="left" if column == "class" else "right")

    def add(name: str, frequency: str, figures: list[float | None], *, style: str = "") -> None:
        cells = ["-" if figure is None else f"{100 * figure:.1f}" for figure in figures]
        before, after = figures
        gain = "-"
        if before is not None and after is not None:
            gain = f"[{'green' if after >= before else 'red'}]{100 * (after - before):+.1f}[/]"
        table.add_row(name, frequency, *cells, gain, style=style)

    for index in np.argsort(-share):
        name = facts.classes.names[index]
        mark = " (tail)" if name in facts.tail.names else ""
        add(name + mark, f"{100 * share[index]:.2f}", [result["per_class_iou"][name] for result in results.values()])
    table.add_section()
    for key, title in (("miou", "mIoU"), ("head_miou", "head mIoU"), ("tail_miou", "tail mIoU")):
        add(title, "", [result[key] for result in results.values()], style="bold")
    return table


def draw_predictions() -> Image.Image:
    """Test images in rows: the image, the truth, and what both methods see in it."""
    config, facts = read_run(OUTPUT / "cutmix_seg")
    test = build_scored(config.data, "test", seed=config.seed)
    examples = _examples(test, [facts.classes.names.index(name) for name in facts.tail.names])
    images = [test.image(index) for index in examples]
    labels = {"truth": [test.label(index) for index in examples]}
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    for name in METHODS:
        run, stored = OUTPUT / name, read_run(OUTPUT / name)
        _, network = predictor_of(load_method(run, *stored, "last"), None)
        with torch.inference_mode():
            labels[name] = list(network(batch).argmax(dim=1).numpy())
    palette = np.array(facts.classes.colors, np.uint8)
    rows = [[image, *(palette[maps[row]] for maps in labels.values())] for row, image in enumerate(images)]
    enlarged = [[tile.repeat(2, axis=0).repeat(2, axis=1) for tile in row] for row in rows]
    return tile_sheet(enlarged, facts.classes.names, facts.classes.colors, ("image", *labels))


def _examples(test: Dataset, tail: list[int]) -> list[int]:
    """The test images that show the most tail classes; chosen by the truth alone."""
    shown = [sum((test.label(index) == rare).sum() >= 30 for rare in tail) for index in range(len(test))]
    return sorted(np.argsort(-np.array(shown), kind="stable")[:EXAMPLES].tolist())


if __name__ == "__main__":
    sys.exit(main())
