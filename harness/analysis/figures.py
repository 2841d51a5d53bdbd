"""Stage `figures`: from tables to PNG and SVG, byte for byte the same each time."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.plots import arms, by_k, curves, effects, frontier, life, tradeoff, tuning
from harness.analysis.style import house_style, save
from harness.analysis.view import load_view

FIGURES = {
    "arms": arms.draw,
    "by_k": by_k.draw,
    "curves": curves.draw,
    "life": life.draw,
    "features": arms.draw_features,
    "effects": effects.draw,
    "feature_effects": effects.draw_features,
    "tuning": tuning.draw,
    "tradeoff": tradeoff.draw,
    "frontier": frontier.draw,
}


def make_figures(results: Path) -> list[Path]:
    """Draw `figures/*.{png,svg}` from study.json and the tables; returns the written paths.

    A figure that has nothing to show (tuning where nothing is tuned) is not written, and an older one is removed.
    Raises UserError where the tables are missing.
    """
    view = load_view(results)
    folder = results / "figures"
    folder.mkdir(exist_ok=True)
    written: list[Path] = []
    with house_style():
        for name, draw in FIGURES.items():
            figure = draw(view)
            if figure is not None:
                written += save(figure, folder / name)
                continue
            for suffix in (".png", ".svg"):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)
    return written
