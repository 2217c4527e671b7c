"""Sheets of image tiles with captions and a class legend, for the scripts beside this file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP, LINE = 4, 30  # pixels


def tile_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    captions: Sequence[str] = (),
) -> Image.Image:
    """One picture of many.

    Args:
        rows: equally long rows of tiles, each (H, W, 3) uint8 RGB, all of one size.
        names, colors: the classes of the legend at the bottom.
        captions: what stands above each column, if anything.
    """
    height, width = rows[0][0].shape[:2]
    top = GAP + (LINE if captions else 0)
    size = (len(rows[0]) * (width + GAP) + GAP, top + len(rows) * (height + GAP) + LINE)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, caption in enumerate(captions):
        draw.text((GAP + column * (width + GAP) + width / 2, LINE / 2), caption, "black", font, anchor="mm")
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (GAP + column * (width + GAP), top + row * (height + GAP)))
    _draw_legend(draw, sheet.width, sheet.height - LINE, names, colors)
    return sheet


def _draw_legend(
    draw: ImageDraw.ImageDraw, width: int, top: int, names: Sequence[str], colors: Sequence[tuple[int, int, int]]
) -> None:
    """A colour patch and a name per class, in one line as wide as the sheet."""
    size = 15
    while sum(ImageFont.load_default(size).getlength(name) + 34 for name in names) > width and size > 6:
        size -= 1
    font = ImageFont.load_default(size)
    widths = [font.getlength(name) + 22 for name in names]
    gap = (width - 2 * GAP - sum(widths)) / max(len(names) - 1, 1)
    left: float = GAP
    for name, color, own in zip(names, colors, widths, strict=True):
        draw.rectangle((left, top + 7, left + 16, top + 23), fill=color)
        draw.text((left + 21, top + 15), name, "black", font, anchor="lm")
        left += own + gap
