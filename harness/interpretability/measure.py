"""All that is found about the latents of one SAE, in files of one folder.

contexts.parquet, answers.parquet, latent_scores.parquet, latents.parquet, and figures.json, which is written last:
the others are whole where it is there. docs/interpretability.md has their columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from torch import Tensor

from harness.evaluation.measurements import Figures
from harness.files import read_record, write_json
from harness.interpretability.answers import ask
from harness.interpretability.cell import CellLatents, Columns
from harness.interpretability.contexts import write_contexts
from harness.interpretability.direction import directions, shallow_cosine
from harness.interpretability.examples import Drawing, Examples
from harness.interpretability.figures import figures_of
from harness.interpretability.firings import Firings
from harness.interpretability.histogram import histogram
from harness.interpretability.judging import Judge
from harness.interpretability.logits import logit_effects
from harness.interpretability.matching import figures_of_pairs, found_again
from harness.interpretability.scores import latent_scores, scores_of_latents
from harness.interpretability.tables import (
    ANSWERS,
    CONTEXTS,
    FIGURES,
    LATENTS,
    SCORES,
    latents_table,
    replacing_table,
)

Stamp = dict[str, Any]  # what decides figures besides the SAE
COMPARED = ("shallow_cosine", "found_again")  # columns that depend on other SAEs


@dataclass(frozen=True)
class Compared:
    """Other SAEs that a cell's latents are looked for in.

    stamp: which ones. rows: decoder rows of the reference arm's SAEs at other seeds, each [alive latents, width].
    others: what the SAEs of the same arm at other seeds fire on.
    """

    stamp: Stamp = field(default_factory=dict)
    rows: Sequence[Tensor] = ()
    others: Sequence[Firings] = ()


NOTHING = Compared()


def interpret(folder: Path, own: Stamp, cell: CellLatents, judge: Judge, compared: Compared = NOTHING) -> Figures:
    """Write a cell's files and return its figures.

    own: what decides all that does not depend on other SAEs; where the folder's files have the same one, only the
    rest is made again. Raises UserError where the judge cannot go on.
    """
    before = read_record(folder / FIGURES, ("own",))
    if before is None or before["own"] != own:
        (folder / FIGURES).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        columns = _own(folder, cell, judge)
    else:
        kept = pq.read_table(folder / LATENTS)
        columns = {name: kept[name] for name in kept.column_names if name not in COMPARED}
    columns, pairs = _compared(cell, columns, compared)
    table = latents_table(columns, len(cell.sample))
    with replacing_table(folder / LATENTS) as path:
        pq.write_table(table, path, compression="zstd")
    figures = {**figures_of(table, pq.read_table(folder / ANSWERS)), **pairs}
    write_json(folder / FIGURES, {"own": own, "compared": compared.stamp, "figures": figures})
    return figures


def _own(folder: Path, cell: CellLatents, judge: Judge) -> dict[str, Any]:
    """Judge the latents and write contexts and answers. Returns the columns that depend on this SAE alone."""
    asked = cell.asked
    with replacing_table(folder / CONTEXTS) as path:
        shown = write_contexts(path, drawn(cell), cell.windows)
        asking = ask(judge, shown, cell.windows, asked.seed, asked.judge.repetitions)
    for file, table in ((ANSWERS, asking.answers), (SCORES, latent_scores(asking.answers))):
        with replacing_table(folder / file) as path:
            pq.write_table(table, path, compression="zstd")
    texts = {latent: found.text for (latent, draw), found in asking.explanations.items() if draw == 0}
    explanations: Columns = {"explanation": [texts.get(int(latent)) for latent in cell.sample]}
    scores = scores_of_latents(asking.answers, cell.sample)
    unscored: Columns = {"unscored": cell.alive & np.isnan(scores["detection"])}
    columns: dict[str, Any] = {}
    for part in (cell.described(), histogram(cell), explanations, scores, unscored):
        columns |= part
    return {**columns, **directions(cell), **logit_effects(cell)}


def drawn(cell: CellLatents) -> Iterator[Examples]:
    """The windows that are shown of each latent of the sample, all draws of one latent after another."""
    drawing = Drawing(cell.windows, cell.firings, cell.asked)
    for latent in cell.sample:
        for draw in range(cell.asked.draws):
            yield drawing.draw(int(latent), draw)


def _compared(cell: CellLatents, columns: dict[str, Any], compared: Compared) -> tuple[dict[str, Any], Figures]:
    """The columns with those that depend on other SAEs, and the figures of these that are of all latents."""
    more = dict(shallow_cosine(cell, compared.rows)) if compared.rows else {}
    shares = found_again(cell.firings, compared.others) if compared.others else None
    if shares is None:
        return {**columns, **more}, {}
    more["found_again"] = shares[cell.sample]
    return {**columns, **more}, figures_of_pairs(shares, cell.firings.rates)
