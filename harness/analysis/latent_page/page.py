"""Makes the page: what the list and the windows need as data, and the script and style that show it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from harness.analysis.latent_page.blocks import BLOCK, Columns, Words, blocks_of, columns_of, packed
from harness.analysis.latent_page.cells import PageCell, read_tokens
from harness.analysis.page.templates import templates
from harness.analysis.results.records import StudyRecord
from harness.errors import UserError
from harness.files import write_atomically

HERE = Path(__file__).parent
REPORT_STYLE = HERE.parent / "page" / "page.css"
SCRIPTS = ("data.js", "text.js", "detail.js", "list.js", "filters.js")
MOST = 200_000  # latents on a page: with more, browsers run out of memory


@dataclass(frozen=True)
class Figure:
    """A figure of a latent: its column of latents.parquet. chance: of a score, what guessing would reach.

    column: the heading of its column in the list; empty for figures that have one only while they are chosen.
    """

    name: str
    label: str
    chance: float | None = None
    unit: str = "%"
    column: str = ""


FIGURES = (
    Figure("detection", "detection", 0.5, column="detection"),
    Figure("detection_same_token", "detection: same peak token", 0.5),
    Figure("detection_similar", "detection: similar text", 0.5),
    Figure("detection_neighbour", "detection: neighbour fires", 0.5),
    Figure("detection_hard", "detection: hard negatives", 0.5, column="hard"),
    Figure("detection_permuted", "detection: wrong explanation", 0.5),
    Figure("fuzzing", "fuzzing", 0.5),
    Figure("intruder", "intruder", 0.2),
    Figure("direction_cosine", "cosine of its effects with their mean", unit=""),
    Figure("direction_share", "share of its effects along one direction"),
    Figure("shallow_cosine", "cosine with the nearest baseline latent", unit=""),
    Figure("found_again", "found again with other seeds"),
    Figure("logit_kl", "KL of predictions without it", unit="nats"),
)


def make_page(
    study: StudyRecord, cells: Sequence[PageCell], folder: Path, out: Path, *, report: str = "", missing: int = 0
) -> int:
    """Write the page of these cells to `out`. Returns how many latents it has.

    folder: that of the study's latents. report: the address of the report, seen from the page; empty: no link.
    missing: how many of the study's SAEs have no tables yet. Raises UserError where the text of tokens is missing,
    or where the latents are too many.
    """
    vocabulary = read_tokens(folder)
    tables = [cell.latents() for cell in cells]
    total = sum(len(table) for table in tables)
    if total > MOST:
        raise UserError(
            f"{folder}: expected at most {MOST:,} latents on a page, got {total:,}; name an arm or a seed"
        )
    words = Words()
    blocks: list[str] = []
    listed: list[dict[str, Any]] = []
    for cell, table in zip(cells, tables, strict=True):
        where = {"latents": len(table), "block": len(blocks)}
        listed.append({"id": cell.id, "arm": cell.arm, "seed": cell.seed, **where})
        blocks += [packed(block) for block in blocks_of(cell, table, words)]
    figures = [figure for figure in FIGURES if any(_has(table, figure.name) for table in tables)]
    columns = _columns(tables, [figure.name for figure in figures])
    shown = [asdict(figure) for figure in figures]
    index = {"blockSize": BLOCK, "cells": listed, "figures": shown, "columns": columns}
    saes = [cell for cell in cells if not cell.null]
    sizes = {"arms": len({cell.arm for cell in saes}), "saes": len(saes), "nulls": len(cells) - len(saes)}
    sizes["latents"] = total
    data = {"index": packed(index), "words": packed(words.texts(vocabulary)), "blocks": blocks}
    write_atomically(out, _html(study=study, sizes=sizes, report=report, missing=missing, **data).encode())
    return total


def _columns(tables: Sequence[pl.DataFrame], figures: Sequence[str]) -> Columns:
    """The list's columns of all cells, one after another."""
    columns: Columns = {}
    for cell, table in enumerate(tables):
        for name, values in columns_of(table, cell, figures).items():
            columns.setdefault(name, []).extend(values)
    return columns


def _has(table: pl.DataFrame, column: str) -> bool:
    """Whether any latent has this figure."""
    return column in table.columns and table[column].cast(pl.Float64).is_finite().any()


def _html(**contents: Any) -> str:
    environment = templates("latent_page")
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html.jinja").render(
        **contents,
        style=Markup(REPORT_STYLE.read_text(encoding="utf-8") + (HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",  # no other script runs, whatever the tokens of a text hold
    )
