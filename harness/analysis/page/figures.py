"""The figures of the page, embedded: at most a screen of them, the others folded."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCREEN = 1.1  # height of a screen in widths of a figure
LARGEST_SVG = 400_000  # bytes; a figure of many arms is smaller as pixels
SIZE = re.compile(rb'<svg[^>]*?\bwidth="([\d.]+)[^>]*?\bheight="([\d.]+)')


@dataclass(frozen=True)
class PageFigure:
    """`data`: the image as a URI. `height`: in widths."""

    name: str
    caption: str
    data: str
    height: float


def page_figures(folder: Path, captions: Mapping[str, str]) -> list[PageFigure]:
    """Those of the figures that were drawn, in the order of their captions."""
    return [_figure(path, text) for name, text in captions.items() if (path := folder / f"{name}.svg").is_file()]


def _figure(path: Path, caption: str) -> PageFigure:
    svg, kind = path.read_bytes(), "svg+xml"
    size = SIZE.search(svg)
    png = path.with_suffix(".png")
    image = svg
    if len(svg) > LARGEST_SVG and png.is_file() and png.stat().st_size < len(svg):
        image, kind = png.read_bytes(), "png"
    data = f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
    return PageFigure(path.stem, caption, data, float(size[2]) / float(size[1]) if size else 0.0)


def first_screen(figures: Sequence[PageFigure]) -> tuple[Sequence[PageFigure], Sequence[PageFigure]]:
    """The first figures, as many as a screen has room for and at least one; the others."""
    height = 0.0
    for count, figure in enumerate(figures):
        height += figure.height
        if height > SCREEN and count:
            return figures[:count], figures[count:]
    return figures, []
