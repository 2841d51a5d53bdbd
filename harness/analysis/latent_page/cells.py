"""Which cells a page shows: those of a study with tables of latents, by arm and seed, and the null arms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from harness.analysis.results.records import CellRecord, StudyRecord
from harness.errors import UserError

LATENTS, CONTEXTS, TOKENS = "latents.parquet", "contexts.parquet", "tokens.parquet"
WHOLE = "figures.json"  # is written last
NULL = "null-"


@dataclass(frozen=True)
class PageCell:
    """One SAE on the page, or a null arm, whose seed is None."""

    id: str
    arm: str
    seed: int | None
    folder: Path

    @property
    def null(self) -> bool:
        return self.seed is None

    def latents(self) -> pl.DataFrame:
        """One row per sampled latent, in their order."""
        return pl.read_parquet(self.folder / LATENTS).sort("latent")

    def contexts(self, first: int, last: int) -> pl.DataFrame:
        """One row per window that was shown of these latents; the table of all may be too large for the memory."""
        found = pl.scan_parquet(self.folder / CONTEXTS).filter(pl.col("latent").is_between(first, last))
        return found.collect()


def page_cells(folder: Path, study: StudyRecord, cells: Sequence[CellRecord]) -> list[PageCell]:
    """The cells that have tables in `folder`, arms in the study's order, the null arms last.

    Raises UserError if there are none.
    """
    labels = study.labels([cell.arm for cell in cells])
    ordered = sorted(zip(cells, labels, strict=True), key=lambda pair: _place(study, pair[0]))
    found = [PageCell(cell.cell, label, cell.seed, folder / cell.cell) for cell, label in ordered]
    found = [cell for cell in found if (cell.folder / WHOLE).is_file()]
    if not found:
        asked = f"`harness run {study.path}` makes them where the study has the key interpretability"
        raise UserError(f"{folder}: expected tables of latents; {asked}")
    return [*found, *_nulls(folder, study)]


def chosen(cells: Sequence[PageCell], arm: str | None, seed: int | None) -> list[PageCell]:
    """Those of one arm, or of one seed, or all. Raises UserError if there are none."""
    _check("arm", arm, (cell.arm for cell in cells))
    here = [cell for cell in cells if arm in (None, cell.arm)]
    _check("seed", seed, (cell.seed for cell in here))
    return [cell for cell in here if seed in (None, cell.seed)]


def _check(what: str, asked: str | int | None, there: Iterable[str | int | None]) -> None:
    known = list(dict.fromkeys(there))
    if asked is not None and asked not in known:
        names = ", ".join(repr(one) for one in known if one is not None)
        raise UserError(f"{what}: expected one of {names}, got {asked!r}")


def _place(study: StudyRecord, cell: CellRecord) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    tuned = study.rank(study.tuned, study.setting(cell.tuned))
    return study.rank(study.compared, study.key(cell.arm)), tuned, cell.seed


def _nulls(folder: Path, study: StudyRecord) -> Iterator[PageCell]:
    for name, null in study.nulls.items():
        path = folder / f"{NULL}{name}"
        if (path / WHOLE).is_file():  # that of another study has its page there
            yield PageCell(path.name, null.label, None, path)


def missing(folder: Path, cells: Sequence[PageCell]) -> int:
    """How many of the SAEs that the study asks about have no tables yet."""
    path = folder / "cells.json"
    asked = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else {}
    return len(asked.keys() - {cell.id for cell in cells})


def read_tokens(folder: Path) -> list[str]:
    """The text of every token, by its number. Raises UserError where the study has none."""
    path = folder / TOKENS
    if not path.is_file():
        raise UserError(f"{folder}: expected {TOKENS}, the text of the language model's tokens")
    table = pl.read_parquet(path).sort("token")
    return table["text"].to_list()
