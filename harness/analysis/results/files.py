"""What the sweep wrote to `results/<study>/`, and the tables made of it, read and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import ValidationError

from harness.analysis.results.finite import finite_cell
from harness.analysis.results.records import CellRecord, Record, StudyRecord
from harness.errors import UserError
from harness.metrics import curve_columns

POINT = {"cell": pl.String, "step": pl.Int64, "tokens": pl.Int64}  # what a point of a curve has beside figures
TABLES = (
    "cells",
    "arms",
    "seeds",
    "effects",
    "interactions",
    "variance",
    "reach",
    "curves",
    "life",
    "life_effects",
    "tuning",
    "layers",
    "frontier",
    "senses",
    "latents",
    "interpretability_variance",
    "nulls",
    "above_nulls",
)


def read_study(results: Path) -> StudyRecord:
    """Read `study.json`. Raises UserError where it is missing or is not one."""
    return _parse(StudyRecord, _text(results, "study.json"), f"{results}/study.json")


def study_path(results: Path) -> str:
    """The file of the study that made these results, for commands; the usual place where they do not say."""
    try:
        return str(json.loads((results / "study.json").read_text(encoding="utf-8"))["file"])
    except (OSError, ValueError, LookupError, TypeError):
        return f"studies/{results.name}.yaml"


def read_provenance(results: Path) -> dict[str, Any]:
    """Read `provenance.json`; empty where the sweep did not write one. Raises UserError where it is damaged."""
    path = results / "provenance.json"
    if not path.exists():
        return {}
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: expected JSON: {error}") from error
    if not isinstance(made, dict):
        raise UserError(f"{path}: expected an object, got {type(made).__name__}")
    return made


def read_cells(results: Path, study: StudyRecord) -> list[CellRecord]:
    """Read `cells.jsonl`. Raises UserError where it is missing, malformed or of another study."""
    path = f"{results}/cells.jsonl"
    lines = enumerate(_text(results, "cells.jsonl").splitlines(), start=1)
    cells = {
        number: finite_cell(_parse(CellRecord, line, f"{path}:{number}")) for number, line in lines if line.strip()
    }
    seen: set[str] = set()
    for number, cell in cells.items():
        _check(cell, study, seen, f"{path}:{number}")
        seen.add(cell.cell)
    if not cells:
        raise UserError(f"{path}: no cells: run `harness run {study.path}` first")
    return list(cells.values())


def read_curves(results: Path) -> pl.DataFrame:
    """Read `curves.jsonl`, one row a point. Raises UserError where it is missing or malformed."""
    rows, schema = [], _schema()
    for number, line in enumerate(_text(results, "curves.jsonl").splitlines(), start=1):
        try:
            point = json.loads(line)
            rows.append({c: point[c] if c in POINT else point.get(c) for c in schema})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{results}/curves.jsonl:{number}: not a point of a curve: {error}") from error
    return pl.DataFrame(rows, schema=schema)


def no_curves() -> pl.DataFrame:
    """As `read_curves`, without any point: for what reads final figures alone."""
    return pl.DataFrame([], schema=_schema())


def _schema() -> dict[str, Any]:
    return POINT | dict.fromkeys(curve_columns(), pl.Float64)


def _check(cell: CellRecord, study: StudyRecord, seen: set[str], where: str) -> None:
    if cell.cell in seen:
        raise UserError(f"{where}: cell: {cell.cell} is here twice, expected each cell once")
    if cell.state == "complete" and cell.fvu is None and "fvu" not in cell.not_measured:
        raise UserError(f"{where}: heldout: expected figures, since the cell is complete")
    if cell.seed not in (seeds := [*study.seeds, *study.tuning_seeds]):
        raise UserError(f"{where}: seed: expected one of {seeds} (study.json), got {cell.seed}")
    for axis, level in {**cell.arm, **cell.tuned}.items():
        if level not in study.axes.get(axis, []):
            raise UserError(f"{where}: {axis}: {level!r} is no level of this axis in study.json")


RecordType = TypeVar("RecordType", bound=Record)


def _parse(kind: type[RecordType], text: str, where: str) -> RecordType:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{where}: {key}: {first['msg']}") from error


def _text(results: Path, name: str) -> str:
    path = results / name
    if not path.is_file():
        raise UserError(f"{results}: no {name}: run `harness run {study_path(results)}` first")
    return path.read_text(encoding="utf-8")


def read_table(results: Path, name: str) -> pl.DataFrame:
    """Read a table that `make_tables` wrote. Raises UserError where it did not."""
    path = results / "tables" / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{results}: no tables/{name}.parquet: run `harness report {study_path(results)}` first")
    return pl.read_parquet(path)
