"""Checks that there are as many activations as a study's settings need."""

from __future__ import annotations

from pathlib import Path

from harness.study.axes import Setting
from harness.study.grid import location, recipes
from harness.study.labels import describe
from harness.study.spec import Study


def check_fits(study: Study, tokens: dict[str, int], origin: Path) -> None:
    """Raise UserError for the first setting whose batch or dead window exceeds the tokens of its split.

    tokens: of the splits `train` and `held_out`, as `origin` (a source file, or a store) has them.
    """
    train, held_out = tokens["train"], tokens["held_out"]
    for setting, recipe in recipes(study):
        if recipe.batch > train:
            raise _error(study, setting, "batch", f"{train} activations of {origin}", recipe.batch)
        if recipe.dead_window > held_out:
            there = f"{held_out} held-out tokens of {origin}"
            raise _error(study, setting, "dead_window", there, recipe.dead_window)


def _error(study: Study, setting: Setting, name: str, there: str, got: int) -> Exception:
    message = f"expected at most the {there}, got {got} (in {describe(setting)})"
    return study.file.error(location(study, setting, name), message)
