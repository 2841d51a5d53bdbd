"""Tables as readers see them: numbers with their intervals, and an id for each row that sentences link to."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.analysis.page.plain_columns import Cell, Column, plain_columns, words
from harness.analysis.results.levels import column, levels_in
from harness.analysis.sentences.text import bracket, count, plural, signed
from harness.analysis.views.view import Row, View
from harness.metrics import FVU, L0, Metric
from harness.study.labels import describe, show

MOST_ROWS = 500
LOST = ("diverged", "pruned", "failed", "missing")
SHOWN_METRICS = ("nmse", "mse")  # of the arms' table, beside what arms are compared by and L0
REFERENCES = "references"
INTERPRETABILITY = "interpretability"
# Tables of columns of another one
SOURCES = {"metrics": "arms", INTERPRETABILITY: "arms", "interpretability_effects": "effects"}
MEANS = "Means over n seeds with {confidence} intervals in brackets."
CHANGES = "Changes against the reference with {confidence} intervals in brackets; each is of its comparison alone."


@dataclass(frozen=True)
class ShownRow:
    """`marked`: the baseline."""

    id: str
    cells: list[Cell]
    marked: bool = False


@dataclass(frozen=True)
class ShownTable:
    """`file`: the table in full, from the results folder. A row's first cell is its header."""

    name: str
    title: str
    note: str
    file: str
    columns: list[Column]
    rows: list[ShownRow]


def shown_table(view: View, name: str, pointed_to: Container[int] = ()) -> ShownTable | None:
    """A table of the view; None where it has no rows. Its n-th row has the id `name-n`.

    A table of thousands of rows would make a page of megabytes: then there are only the rows that are pointed to.
    """
    source = SOURCES.get(name, name)
    rows = view.tables.get(source, [])
    if not rows:
        return None
    numbered = list(enumerate(rows, start=1))
    if len(rows) > MOST_ROWS:
        numbered = [(n, row) for n, row in numbered if n in pointed_to]
    title, note, columns_of = KNOWN.get(name, (name.replace("_", " ").capitalize(), "", _plain))
    if not (columns := columns_of(view, rows)):
        return None
    note = note.format(confidence=view.confidence)
    shown = [_row(f"{name}-{n}", columns, row) for n, row in numbered]
    if len(shown) < len(rows):
        note = f"{note} Here are the {len(shown)} of {len(rows):,} rows that sentences are read from.".strip()
    if name == "arms":
        marked = None if view.baseline is None else view.baseline["arm"]
        shown = [
            ShownRow(s.id, s.cells, row["arm"] == marked)
            for s, row in zip(shown, (row for _, row in numbered), strict=True)
        ]
        shown += _references(view, columns)
    return ShownTable(name, title, note, f"tables/{source}.csv", columns, shown)


def _row(id: str, columns: Sequence[Column], row: Row) -> ShownRow:
    return ShownRow(id, [column.cell(row) for column in columns])


def _references(view: View, columns: Sequence[Column]) -> list[ShownRow]:
    """SAEs of other origin below the arms: one SAE each, without seeds and without intervals."""
    known = {metric.label for metric in view.metrics}
    rows = []
    for n, (name, figures) in enumerate(view.references, start=1):
        cells = [one.cell(figures) if one.label in known else Cell("–") for one in columns[1:]]
        rows.append(ShownRow(f"{REFERENCES}-{n}", [Cell(name, "reference"), *cells]))
    return rows


def _figure(metric: Metric) -> Column:
    """Its mean in the shown unit above its interval, where the row has one."""

    def cell(row: Row) -> Cell:
        value = row[metric.name]
        if value is None:
            return Cell("–")
        ends = bracket(row, metric.name, metric.digits, metric.scale) if f"{metric.name}_low" in row else ""
        return Cell(f"{metric.scale * value:.{metric.digits}f}".replace("-", "−"), ends, value)

    return Column(metric.label, cell, unit=metric.unit.strip())


def _metrics(view: View, rows: Sequence[Row]) -> list[Column]:
    """Every metric, also those that arms are not compared by; those of latents have a table of their own."""
    others = [metric for metric in view.metrics if metric.group != INTERPRETABILITY]
    return [words("arm", "arm"), *(_figure(metric) for metric in others)]


def _interpretability(view: View, rows: Sequence[Row]) -> list[Column]:
    metrics = [metric for metric in view.metrics if metric.group == INTERPRETABILITY]
    return [words("arm", "arm"), *(_figure(metric) for metric in metrics)] if metrics else []


def _arms(view: View, rows: Sequence[Row]) -> list[Column]:
    first, *others = view.outcomes
    beside = [metric for metric in view.metrics if metric.name in SHOWN_METRICS]
    figures = [_figure(metric) for metric in (first, L0, *beside, *others)]
    return [
        Column("arm", _arm_name(view), words=True),
        *(Column(axis, _tuned(axis, first=not place)) for place, axis in enumerate(view.study.tuned)),
        Column("n", _seeds),
        *figures,
        Column("parameters", lambda row: Cell(count(row["parameters"]), value=row["parameters"])),
        Column("FLOPs per token", lambda row: Cell(count(row["flops_per_token"]), value=row["flops_per_token"])),
    ]


def _arm_name(view: View) -> Callable[[Row], Cell]:
    baseline = None if view.baseline is None else view.baseline["arm"]
    return lambda row: Cell(row["arm"], "baseline" if row["arm"] == baseline else "")


def _tuned(axis: str, *, first: bool) -> Callable[[Row], Cell]:
    """The chosen value; in the first such column also how it was chosen."""

    def cell(row: Row) -> Cell:
        how = row["agreement"] if row["selection"] == "cross-fitted" else row["selection"]
        level = row[column(axis)]
        return Cell(show(level), how if first else "", level if type(level) in (int, float) else None)

    return cell


def _seeds(row: Row) -> Cell:
    lost = ", ".join(f"{row[state]} {state}" for state in LOST if row[state])
    return Cell(str(row["n"]), lost, row["n"])


def _effects(view: View, rows: Sequence[Row]) -> list[Column]:
    return _changes(rows, view, view.outcomes)


def _interpretability_effects(view: View, rows: Sequence[Row]) -> list[Column]:
    return _changes(rows, view, view.interpretability) if view.interpretability else []


def _nulls(view: View, rows: Sequence[Row]) -> list[Column]:
    figures = (FVU, *view.interpretability)
    known = [metric for metric in figures if any(row[metric.name] is not None for row in rows)]
    name = Column("null", lambda row: Cell(row["label"], f"intervals over {row['over']}"), words=True)
    return [name, *map(_figure, known)]


def _above_nulls(view: View, rows: Sequence[Row]) -> list[Column]:
    scores = [one for one in view.interpretability if any(row.get(one.effect) is not None for row in rows)]
    names = [Column("arm", lambda row: Cell(row["arm"], f"above {row['label']}"), words=True)]
    return [*names, *(_points(score) for score in scores)] if scores else []


def _points(score: Metric) -> Column:
    digits = score.change_digits

    def cell(row: Row) -> Cell:
        value = row[score.effect]
        return (
            Cell("–") if value is None else Cell(signed(value, digits), bracket(row, score.effect, digits), value)
        )

    return Column(score.label, cell, unit=score.change_unit)


def _changes(rows: Sequence[Row], view: View, outcomes: Sequence[Metric]) -> list[Column]:
    """What is compared, then for each outcome the change and the verdict on it."""
    several = len({row["axis"] for row in rows}) > 1
    counted = [Column("n of the reference", lambda row: Cell(_text(row["n_reference"]), value=row["n_reference"]))]
    return [
        Column("level", lambda row: Cell(_level(row, several), f"instead of {row['reference']}"), words=True),
        Column("compared", lambda row: Cell(*_compared(view, row)), words=True),
        Column("n", lambda row: Cell(str(row["n"]), value=row["n"])),
        *(counted if "n_reference" in rows[0] else []),
        *(column for outcome in outcomes for column in _outcome(outcome)),
    ]


def _level(row: Row, several: bool) -> str:
    return f"{row['axis']} {row['level']}" if several else str(row["level"])


def _compared(view: View, row: Row) -> tuple[str, str]:
    """Which arms, and at which of their settings."""
    if row["kind"] == "marginal":
        return f"mean over {plural(row['pairs'], 'pair')} of arms", ""
    tuned = [axis for axis in view.study.tuned if row.get(column(axis)) is not None]
    at = f"both at {describe(levels_in(row, tuned))}" if row["kind"] == "equal" else "each at its best"
    return row["holding"] or "one pair of arms", at if view.study.tuned else ""


def _outcome(outcome: Metric) -> list[Column]:
    name, short, digits = outcome.effect, outcome.short, outcome.change_digits

    def change(row: Row) -> Cell:
        if row[name] is None:
            return Cell("–")
        return Cell(signed(row[name], digits), bracket(row, name, digits), row[name])

    def verdict(row: Row) -> Cell:
        p, seeds = row.get(f"{short}_p_holm"), row.get(f"{short}_seeds_needed")
        notes = [] if p is None else [f"p = {p:.2g} (Holm)"]
        notes += [] if seeds is None else [f"{seeds:g} seeds would settle it"]
        return Cell(row[outcome.verdict], ", ".join(notes))

    label = f"change of {outcome.label}"
    return [Column(label, change, unit=outcome.change_unit), Column(f"{outcome.label} is", verdict, words=True)]


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _plain(view: View, rows: Sequence[Row]) -> list[Column]:
    return plain_columns(rows)


ColumnsOf: TypeAlias = Callable[[View, Sequence[Row]], list[Column]]

# What tables are called and what is said below them; a table that is not here is shown with all its columns.
KNOWN: dict[str, tuple[str, str, ColumnsOf]] = {
    "arms": ("Arms", MEANS, _arms),
    "metrics": ("Every metric of every arm", MEANS, _metrics),
    "interpretability": ("What latents of every arm mean", MEANS, _interpretability),
    "effects": ("Effects", CHANGES, _effects),
    "interpretability_effects": ("Effects on what latents mean", CHANGES, _interpretability_effects),
    "latents": (
        "Latents by firing rate, strength of activation and layer",
        "Means over n seeds with 95 % intervals in brackets. Detection is of alive latents that have a score; "
        "recall and precision are of their windows, by strength of activation.",
        _plain,
    ),
    "nulls": (
        "Nulls",
        "What the judge makes of latents that were not learned, of explanations of other latents, and of SAEs "
        "of other studies, whose FVU is of their own activations. 95 % intervals in brackets.",
        _nulls,
    ),
    "above_nulls": (
        "Points above nulls",
        "Of every arm; 95 % intervals from those of both in brackets.",
        _above_nulls,
    ),
    "interpretability_variance": (
        "Where the variance of scores comes from",
        "Standard deviations in points, of one latent’s score in one draw of windows; error: what each adds to "
        "the standard error of an arm’s mean; bootstrap: that error by drawing seeds, or latents, anew.",
        _plain,
    ),
    "layers": (
        "Stacked layers",
        "Layer after layer: each codes what those before it left over. Figures of all of them together are those "
        "of the arm.",
        _plain,
    ),
    "reach": (
        "Tokens to reach the reference’s error",
        "Training tokens until the held-out FVU is that of the reference at half of its tokens (halfway), in "
        "percent of these; and whether it comes down to that of the reference at its last point.",
        _plain,
    ),
    "tuning": (
        "Tuned values",
        "Held-out FVU at every setting that was tried, over the seeds of the search.",
        _plain,
    ),
}
