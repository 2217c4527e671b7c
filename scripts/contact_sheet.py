"""Draws docs/images/synthetic_contact_sheet.png: synthetic street scenes, their labels, and the legend.

Run from the root of the repository: python scripts/contact_sheet.py [--seed 0] [--scenes 3 14 15 ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evenseg.data.synthetic import CLASSES, render

SCENES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)  # one of each weather, all classes
COLUMNS = 6
SIZE = (144, 192)
GAP = 4
LEGEND = 30


def contact_sheet(seed: int, scenes: list[int]) -> Image.Image:
    """Rows of images, each with a row of colour-coded labels below it, and the class legend at the bottom."""
    height, width = SIZE
    rows = -(-len(scenes) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) + GAP, rows * 2 * (height + GAP) + GAP + LEGEND), "white")
    palette = np.array(CLASSES.colors, np.uint8)
    for position, scene in enumerate(scenes):
        row, column = divmod(position, COLUMNS)
        image, label = render(seed, scene, height, width)
        for below, tile in enumerate((image, palette[label])):
            place = (GAP + column * (width + GAP), GAP + (2 * row + below) * (height + GAP))
            sheet.paste(Image.fromarray(tile), place)
    _draw_legend(sheet, sheet.height - LEGEND)
    return sheet


def _draw_legend(sheet: Image.Image, top: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    widths = [24 + font.getlength(name) for name in CLASSES.names]
    gap = (sheet.width - 2 * GAP - sum(widths)) / (len(widths) - 1)
    left: float = GAP
    for name, color, width in zip(CLASSES.names, CLASSES.colors, widths, strict=True):
        draw.rectangle((left, top + 6, left + 17, top + 23), fill=color)
        draw.text((left + 22, top + 14), name, "black", font, anchor="lm")
        left += width + gap


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
