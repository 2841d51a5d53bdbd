"""Checks that a study's source has what the study's settings need."""

from __future__ import annotations

from pathlib import Path

from harness.errors import SettingError
from harness.study.axes import Setting
from harness.study.grid import location, recipes
from harness.study.labels import describe
from harness.study.recipe import Recipe, check_transcoder
from harness.study.spec import Study


def check_fits(study: Study, tokens: dict[str, int], origin: Path) -> None:
    """Raise UserError for the first setting that does not fit the source.

    Batch and dead window are at most the tokens of their splits, and transcoders can be trained if the source is
    for these.

    tokens: of the splits `train` and `held_out`, as `origin` (a source file, or a store) has them.
    """
    train, held_out = tokens["train"], tokens["held_out"]
    for setting, recipe in recipes(study):
        if recipe.batch > train:
            raise _error(study, setting, "batch", f"{train} activations of {origin}", recipe.batch)
        if recipe.dead_window > held_out:
            there = f"{held_out} held-out tokens of {origin}"
            raise _error(study, setting, "dead_window", there, recipe.dead_window)
        if study.source.stored.target_width is not None:
            try:
                check_transcoder(recipe)
            except SettingError as unfit:
                message = f"{unfit.message} (in {describe(setting)})"
                raise study.file.error(location(study, setting, unfit.key), message) from None


def fits(recipe: Recipe, tokens: dict[str, int]) -> bool:
    """Whether batch and dead window of this recipe fit the tokens of a source."""
    return recipe.batch <= tokens["train"] and recipe.dead_window <= tokens["held_out"]


def _error(study: Study, setting: Setting, name: str, there: str, got: int) -> Exception:
    message = f"expected at most the {there}, got {got} (in {describe(setting)})"
    return study.file.error(location(study, setting, name), message)
