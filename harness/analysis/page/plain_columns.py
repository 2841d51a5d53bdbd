"""Columns of a table as they are shown; those of a table that nothing more is known about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.results.levels import column
from harness.metrics import Metric, metrics_at
from harness.study.labels import show

AXIS = column("")


@dataclass(frozen=True)
class Cell:
    """`note`: in small print, such as an interval. `value`: the number to sort by; without one, the text."""

    text: str
    note: str = ""
    value: float | None = None

    @property
    def line(self) -> str:
        """Both in one line, as in `0.10 [0.09, 0.11]` or `3 (1 diverged)`."""
        note = self.note if self.note.startswith("[") else f"({self.note})"
        return f"{self.text} {note}" if self.note else self.text


@dataclass(frozen=True)
class Column:
    """`words`: it has no numbers, and so stands at the left."""

    label: str
    cell: Callable[[dict[str, Any]], Cell]
    unit: str = ""
    words: bool = False

    @property
    def heading(self) -> str:
        """Label and unit, as in `dead latents, %`."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


def words(label: str, name: str) -> Column:
    """A column of text as it is."""
    return Column(label, lambda row: Cell(str(row[name])), words=True)


def plain_columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """All columns of a table, metrics in their units, and `x_low`, `x_high` as the interval of `x`.

    Columns without any value are left out.
    """
    metrics = {metric.name: metric for metric in (*metrics_at("layer"), *metrics_at("final"))}
    names = list(rows[0])
    ends = {f"{name}_{end}" for name in names for end in ("low", "high")}
    shown = [name for name in names if name not in ends and any(row[name] is not None for row in rows)]
    return [
        _column(name, rows, metrics.get(name), {f"{name}_low", f"{name}_high"} <= set(names)) for name in shown
    ]


def _column(name: str, rows: Sequence[dict[str, Any]], metric: Metric | None, interval: bool) -> Column:
    axis = name.startswith(AXIS)
    label = name.removeprefix(AXIS) if axis else name.replace("_", " ")
    unit = ""
    if metric is not None:
        label, unit = metric.label, metric.unit.strip()
    elif label.endswith(" percent"):
        label, unit = label.removesuffix(" percent"), "%"

    def text(value: Any) -> str:
        if axis:
            return show(value)
        if metric is not None and value is not None:
            return f"{metric.scale * value:.{metric.digits}f}".replace("-", "−")
        return plain(value)

    def cell(row: dict[str, Any]) -> Cell:
        value, note = row[name], ""
        if interval and row[f"{name}_low"] is not None and row[f"{name}_high"] is not None:
            note = f"[{text(row[f'{name}_low'])}, {text(row[f'{name}_high'])}]"
        return Cell(text(value), note, value if type(value) in (int, float) else None)

    return Column(label, cell, unit, words=any(isinstance(row[name], str) for row in rows))


def plain(value: Any) -> str:
    """A value of any kind: `–`, `yes`, `1,234`, `0.1234`, `1,234,568`, or the text itself."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000):
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
