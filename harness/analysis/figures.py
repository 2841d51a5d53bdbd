"""Stage `figures`: from tables to PNG and SVG, byte for byte the same each time."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.plots import (
    arms,
    by_k,
    curves,
    dose,
    effects,
    frontier,
    interpretability,
    latent_profiles,
    life,
    tradeoff,
    tuning,
)
from harness.analysis.plots.drawable import drawable
from harness.analysis.plots.style import house_style, save
from harness.analysis.views.view import load_view

FIGURES = {  # those that answer a study's question come first, as in the captions of `report`
    "effects": effects.draw,
    "dose": dose.draw,
    "frontier": frontier.draw,
    "by_k": by_k.draw,
    "arms": arms.draw,
    "tradeoff": tradeoff.draw,
    "feature_effects": effects.draw_features,
    "features": arms.draw_features,
    "interpretability": interpretability.draw,
    "interpretability_effects": effects.draw_interpretability,
    "interpretability_arms": arms.draw_interpretability,
    "interpretability_profiles": latent_profiles.draw,
    "curves": curves.draw,
    "life": life.draw,
    "tuning": tuning.draw,
}


def make_figures(results: Path) -> list[Path]:
    """Draw `figures/*.{png,svg}` from study.json and the tables; returns the written paths.

    A figure that has nothing to show (tuning where nothing is tuned) is not written, and an older one is removed.
    Raises UserError where the tables are missing.
    """
    view = drawable(load_view(results))
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
