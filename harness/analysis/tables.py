"""Stage `tables`: from the sweep's records to Parquet, CSV and DVC metrics, byte for byte the same each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars import selectors

from harness.analysis.arms.arm import arm_rows, collect_arms, seed_rows
from harness.analysis.arms.choosing import with_choice_errors
from harness.analysis.arms.learning_curves import curve_rows, with_full_windows
from harness.analysis.arms.stacks import layer_rows
from harness.analysis.arms.tuning import tuning_rows
from harness.analysis.arms.variance import variance_rows
from harness.analysis.comparability.equal_settings import with_equal_rows
from harness.analysis.comparability.frontier import frontier_rows
from harness.analysis.comparability.reach import reach_rows
from harness.analysis.comparability.senses import sense_rows
from harness.analysis.effects.comparisons import effect_rows
from harness.analysis.effects.contexts import add_contexts
from harness.analysis.effects.interactions import interaction_rows
from harness.analysis.interpretability.breakdown import breakdown_rows
from harness.analysis.interpretability.latents import SampledLatents, none_sampled, read_latents
from harness.analysis.interpretability.nulls import above_null_rows, null_rows
from harness.analysis.interpretability.other_studies import OtherStudy, read_other_studies
from harness.analysis.interpretability.variance import latent_variance_rows
from harness.analysis.life.effects import life_effect_rows
from harness.analysis.life.rates import life_rows
from harness.analysis.results.files import read_cells, read_curves, read_study
from harness.analysis.results.finite import finite_curves
from harness.analysis.results.levels import column, columns
from harness.analysis.results.records import CellRecord, Figures, State, StudyRecord
from harness.files import write_json
from harness.metrics import L0, Metric, compared, metrics_at, present

DIGITS = 12  # significant ones, of what is computed here: sums differ in their last bits with where memory lies
MEASURED = ("cells", "seeds", "references")  # tables of figures as they were measured

LOST: tuple[State, ...] = ("diverged", "pruned", "failed", "missing")


def make_tables(results: Path) -> None:
    """Write `tables/*.{parquet,csv}` and `metrics.json` from what the sweep has exported.

    Raises UserError where study.json, cells.jsonl or curves.jsonl is missing, malformed or of another study, or a
    file of latents is malformed.
    """
    study = read_study(results)
    cells = read_cells(results, study)
    others = read_other_studies(results, study)
    tables = tables_of(study, cells, read_curves(results), read_latents(results), others)
    folder = results / "tables"
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
        table.write_csv(folder / f"{name}.csv")
    _write_metrics(results / "metrics.json", study, cells, tables["arms"])


def tables_of(
    study: StudyRecord,
    cells: Sequence[CellRecord],
    curves: pl.DataFrame,
    sampled: SampledLatents | None = None,
    others: Mapping[str, OtherStudy] | None = None,
) -> dict[str, pl.DataFrame]:
    """All tables by name, from records as `harness.analysis.results.files` reads them; nothing is read or written.

    others: the studies whose baselines are nulls of this one.
    """
    cells = _ordered(study, cells)  # else sums would differ in their last bits with the order of the records
    curves, bad_points = finite_curves(curves.sort("cell", "tokens"))
    curves = with_full_windows(study, cells, curves)
    arms = with_choice_errors(study, collect_arms(study, cells))
    final = _final(cells)
    outcomes, metrics = compared(final), [metric.name for metric in final]
    by_layer = present(metrics_at("layer"), _measured(layer for cell in cells for layer in cell.layers))
    sampled = sampled or none_sampled()
    effects = with_equal_rows(study, arms, outcomes, effect_rows(study, arms, outcomes))
    of_arms, of_nulls = arm_rows(study, arms, final), null_rows(study, arms, final, others or {})
    tables = {
        "cells": _frame(study, _cell_rows(study, cells, metrics, bad_points)),
        "arms": _frame(study, of_arms),
        "seeds": _frame(study, seed_rows(study, arms, metrics)),
        "effects": _frame(study, add_contexts(study, arms, outcomes, effects)),
        "interactions": _frame(study, interaction_rows(study, arms, outcomes)),
        "variance": _frame(study, variance_rows(arms, outcomes)),
        "reach": _frame(study, reach_rows(study, arms, curves)),
        "curves": _frame(study, curve_rows(arms, curves)),
        "life": _frame(study, life_rows(study, arms, curves)),
        "life_effects": _frame(study, life_effect_rows(study, arms, curves)),
        "tuning": _frame(study, tuning_rows(study, arms)),
        "layers": _frame(study, layer_rows(arms, by_layer)),
        "frontier": _frame(study, frontier_rows(study, arms)),
        "senses": _frame(study, sense_rows(study, arms, curves)),
        "latents": _frame(study, breakdown_rows(arms, sampled)),
        "interpretability_variance": _frame(study, latent_variance_rows(arms, sampled)),
        "nulls": _frame(study, of_nulls),
        "above_nulls": _frame(study, above_null_rows(of_arms, of_nulls, final)),
    }
    if study.references:
        rows = _reference_rows(study, metrics)
        tables["references"] = pl.DataFrame(rows, infer_schema_length=None)
    return {name: table if name in MEASURED else _rounded(table) for name, table in tables.items()}


def _rounded(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(selectors.float().round_sig_figs(DIGITS)) if table.width else table


def _final(cells: Sequence[CellRecord]) -> tuple[Metric, ...]:
    """The metrics of trained SAEs, the optional ones where a cell has them."""
    return present(metrics_at("final"), _measured(cell.heldout for cell in cells))


def _reference_rows(study: StudyRecord, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each SAE of other origin; it has no seeds, and so no interval."""
    return [
        {
            "reference": name,
            "package": reference.package,
            "latents": reference.latents,
            **{metric: reference.heldout.get(metric) for metric in metrics},
        }
        for name, reference in study.references.items()
    ]


def reported_cells(results: Path) -> set[str]:
    """Ids of the cells that the seeds table reports, from study.json and cells.jsonl."""
    study = read_study(results)
    arms = collect_arms(study, read_cells(results, study))
    return {cell.cell for arm in arms for cell in arm.reported.values() if cell is not None}


def _measured(figures: Iterable[Figures | None]) -> set[str]:
    """The metrics that have a value somewhere."""
    return {name for known in figures for name, value in (known or {}).items() if value is not None}


def _ordered(study: StudyRecord, cells: Sequence[CellRecord]) -> list[CellRecord]:
    """Cells by arm and setting, as the study file has them, then by seed."""

    def order(cell: CellRecord) -> tuple[Any, ...]:
        arm, tuned = study.key(cell.arm), study.setting(cell.tuned)
        return study.rank(study.compared, arm), study.rank(study.tuned, tuned), cell.seed, cell.cell

    return sorted(cells, key=order)


def _cell_rows(
    study: StudyRecord,
    cells: Sequence[CellRecord],
    metrics: Sequence[str],
    bad_points: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """One row per cell. `score`: held-out FVU when training ended, by which tuned values were chosen.

    `not_measured` names the metrics that a complete cell has no figures of; `not_finite` names figures that were
    left out as no numbers, those of its curve too.
    """
    return [
        {
            "cell": cell.cell,
            **columns(dict(zip(study.compared, study.key(cell.arm), strict=True))),
            **columns(dict(zip(study.tuned, study.setting(cell.tuned), strict=True))),
            "seed": cell.seed,
            "state": cell.state,
            "reason": cell.reason,
            "score": cell.chosen_by,
            **{metric: cell.figure(metric) for metric in metrics},
            "parameters": cell.parameters,
            "flops_per_token": cell.flops_per_token,
            "trained_tokens": cell.tokens,
            "not_measured": "; ".join(cell.not_measured),
            "not_finite": "; ".join([*cell.not_finite, *bad_points.get(cell.cell, [])]),
        }
        for cell in cells
    ]


def _frame(study: StudyRecord, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as a table; an axis that mixes whole and broken numbers becomes a column of broken ones."""
    table: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    for axis, levels in study.axes.items():
        name, kinds = column(axis), {type(level) for level in levels if level is not None}
        if name in table and kinds == {int, float}:
            table[name] = [None if level is None else float(level) for level in table[name]]
        elif name in table and len(kinds) > 1:
            table[name] = [None if level is None else str(level) for level in table[name]]
    texts = {name: pl.String for name in ("sae",) if name in table}  # also where there is none at all
    frame = pl.DataFrame(table, infer_schema_length=None, schema_overrides=texts)
    return frame.with_columns(pl.selectors.by_dtype(pl.Null).cast(pl.Float64))  # figures that no row has


def _write_metrics(path: Path, study: StudyRecord, cells: Sequence[CellRecord], arms: pl.DataFrame) -> None:
    outcomes = compared(_final(cells))
    states = Counter(cell.state for cell in cells)
    metrics = {
        "cells": {"designed": study.cells} | {state: states[state] for state in ("complete", *LOST)},
        "arms": {row["arm"]: _arm_metrics(row, outcomes) for row in arms.iter_rows(named=True)},
    }
    write_json(path, metrics, wait=False)


def _arm_metrics(row: dict[str, Any], outcomes: Sequence[Metric]) -> dict[str, float]:
    """How many seeds an arm is reported on, what became of the others, and its means.

    DVC shows no null, so what is not known is left out; the counts are always there, whatever was lost.
    """
    figures = {name: row[name] for name in (*(outcome.name for outcome in outcomes), L0.name)}
    counts = {name: row[name] for name in ("n", *LOST) if name == "n" or row[name]}
    return counts | {name: float(f"{value:.6g}") for name, value in figures.items() if value is not None}
