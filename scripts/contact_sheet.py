"""Draws docs/images/synthetic_contact_sheet.png: synthetic street scenes, their labels, and the legend.

Run from the root of the repository: python scripts/contact_sheet.py [--seed 0] [--scenes 3 14 15 ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from pictures import tile_sheet
from PIL import Image

from evenseg.data.synthetic import CLASSES, render

SCENES = (15, 164, 274, 5, 155, 161, 226, 290, 53, 94, 90, 313)  # every weather, every class
COLUMNS = 6
SIZE = (144, 192)


def contact_sheet(seed: int, scenes: list[int]) -> Image.Image:
    """Rows of images, each above a row of its colour-coded labels."""
    palette = np.array(CLASSES.colors, np.uint8)
    rows: list[list[np.ndarray]] = []
    for start in range(0, len(scenes), COLUMNS):
        drawn = [render(seed, scene, *SIZE) for scene in scenes[start : start + COLUMNS]]
        rows += [[image for image, _ in drawn], [palette[label] for _, label in drawn]]
    return tile_sheet(rows, CLASSES.names, CLASSES.colors)


def main() -> None:
    """Write the sheet with 256 colours, which keeps the file small."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, nargs="+", default=list(SCENES))
    parser.add_argument("--output", type=Path, default=Path("docs/images/synthetic_contact_sheet.png"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(arguments.seed, arguments.scenes).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    sheet.save(arguments.output, optimize=True)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
