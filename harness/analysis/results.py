"""What the sweep left behind in `results/<study>/`, read and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.study.recipe import Scalar

Level: TypeAlias = Scalar | None  # None: this arm does not have the axis
Key: TypeAlias = tuple[Level, ...]

METRICS = ("fvu", "nmse", "mse", "l0", "dead_fraction", "alive", "effective_latents")

CURVE_SCHEMA = {
    "cell": pl.String,
    "step": pl.Int64,
    "tokens": pl.Int64,
    "train_dead_fraction": pl.Float64,
    "heldout_fvu": pl.Float64,
}
TABLES = ("cells", "arms", "seeds", "effects", "reach", "curves", "tuning")


class Record(BaseModel):
    """A record of the sweep; keys that the analysis does not know are left alone."""

    model_config = ConfigDict(frozen=True)


class HeldOut(Record):
    """Figures on the held-out activations, defined in `harness.training.metrics`.

    The last three only where the source knows its features.
    """

    mse: float
    nmse: float
    fvu: float
    l0: float
    dead_fraction: float
    alive: float
    effective_latents: float
    mcc: float | None = None
    f1: float | None = None
    uniqueness: float | None = None


class Cell(Record):
    """One trained (or lost) cell. `tokens`: trained on; `flops_per_token`: of a training step."""

    cell: str
    arm: dict[str, Scalar]
    tuned: dict[str, Scalar]
    seed: int
    state: Literal["complete", "diverged", "failed", "missing"]
    reason: str | None = None
    heldout: HeldOut | None = None
    parameters: int
    flops_per_token: float
    tokens: int


class Study(Record):
    """The study as it was swept: its axes with their levels, in the order that figures keep.

    `tuning_seeds`: on these alone tuned values were chosen; empty where each seed was chosen on the other `seeds`.
    """

    name: str
    question: str
    axes: dict[str, list[Scalar]]
    tuned: list[str]
    baseline: dict[str, Scalar]
    seeds: list[int]
    tuning_seeds: list[int] = []
    cells: int
    heldout_tokens: int
    dead_window: int
    source: dict[str, Any]
    recipe: dict[str, Any]
    environment: dict[str, Any]

    @property
    def compared(self) -> tuple[str, ...]:
        """The axes that arms are told apart by: all but the tuned ones."""
        return tuple(axis for axis in self.axes if axis not in self.tuned)

    def key(self, arm: dict[str, Any]) -> Key:
        """An arm's level on each compared axis."""
        return tuple(arm.get(axis) for axis in self.compared)

    def setting(self, tuned: dict[str, Any]) -> Key:
        """A value for each tuned axis."""
        return tuple(tuned.get(axis) for axis in self.tuned)

    def rank(self, axes: tuple[str, ...] | list[str], key: Key) -> tuple[int, ...]:
        """Sort key: the place of each level in the study file; a level that an arm lacks goes first."""
        return tuple(-1 if v is None else self.axes[axis].index(v) for axis, v in zip(axes, key, strict=True))

    def reference(self, axis: str) -> Scalar:
        """The level that the others on this axis are compared with."""
        return self.baseline.get(axis, self.axes[axis][0])

    def label(self, arm: dict[str, Any], without: str | None = None) -> str:
        """An arm in words, as in `dense 2-2, penalty 0.1, adam`; axes that do not vary are left out."""
        varying = [a for a in self.compared if len(self.axes[a]) > 1 and a != without]
        return self.describe({axis: arm.get(axis) for axis in varying})

    def describe(self, levels: dict[str, Level]) -> str:
        """Levels in words; one that two axes have, as `none` may be, gets its axis' name in front."""
        words = (
            f"{axis} {level}" if isinstance(level, str) and self._ambiguous(level) else describe({axis: level})
            for axis, level in levels.items()
        )
        return ", ".join(word for word in words if word)

    def _ambiguous(self, level: str) -> bool:
        return sum(level in levels for levels in self.axes.values()) > 1


def describe(levels: dict[str, Level]) -> str:
    """Levels in words; a number gets its axis' name in front, since it says nothing alone."""
    words = [show(v) if isinstance(v, str) else f"{axis} {show(v)}" for axis, v in levels.items() if v is not None]
    return ", ".join(words)


def show(level: Level) -> str:
    """A level as text: `0.1`, `4096`, `dense 2-2`, `true`; an absent one is a dash."""
    if level is None:
        return "–"
    if isinstance(level, bool):
        return str(level).lower()
    if isinstance(level, float):
        return str(int(level)) if level.is_integer() and abs(level) < 1e9 else f"{level:g}"
    return str(level)


def read_study(results: Path) -> Study:
    """Read `study.json`. Raises UserError where it is missing or is not one."""
    return _parse(Study, _text(results, "study.json"), f"{results}/study.json")


def read_cells(results: Path, study: Study) -> list[Cell]:
    """Read `cells.jsonl`. Raises UserError where it is missing, malformed or of another study."""
    path = f"{results}/cells.jsonl"
    lines = enumerate(_text(results, "cells.jsonl").splitlines(), start=1)
    cells = {number: _parse(Cell, line, f"{path}:{number}") for number, line in lines if line.strip()}
    seen: set[str] = set()
    for number, cell in cells.items():
        _check(cell, study, seen, f"{path}:{number}")
        seen.add(cell.cell)
    if not cells:
        raise UserError(f"{path}: no cells: run `harness run studies/{study.name}.yaml` first")
    return list(cells.values())


def read_curves(results: Path) -> pl.DataFrame:
    """Read `curves.jsonl`, one row a point. Raises UserError where it is missing or malformed."""
    rows = []
    for number, line in enumerate(_text(results, "curves.jsonl").splitlines(), start=1):
        try:
            point = json.loads(line)
            rows.append({column: point[column] for column in CURVE_SCHEMA})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{results}/curves.jsonl:{number}: not a point of a curve: {error}") from error
    return pl.DataFrame(rows, schema=CURVE_SCHEMA)


def _check(cell: Cell, study: Study, seen: set[str], where: str) -> None:
    if cell.cell in seen:
        raise UserError(f"{where}: cell: {cell.cell} is here twice, expected each cell once")
    if cell.state == "complete" and cell.heldout is None:
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
        raise UserError(f"{results}: no {name}: run `harness run studies/{results.name}.yaml` first")
    return path.read_text(encoding="utf-8")


def read_table(results: Path, name: str) -> pl.DataFrame:
    """Read a table that `make_tables` wrote. Raises UserError where it did not."""
    path = results / "tables" / f"{name}.parquet"
    if not path.is_file():
        raise UserError(
            f"{results}: no tables/{name}.parquet: run `harness report studies/{results.name}.yaml` first"
        )
    return pl.read_parquet(path)
