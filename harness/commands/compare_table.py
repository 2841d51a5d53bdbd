"""What `harness compare` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.results.levels import levels_in
from harness.analysis.sentences.text import change, level_name, number, plural, shown, signed
from harness.analysis.studies.compared import Both, Result, Row
from harness.analysis.studies.reruns import Reruns, Spread
from harness.metrics import Metric, compared, metrics_at
from harness.narrow import keep_words
from harness.study.labels import describe

KINDS = {
    "pair": "Pairs of arms",
    "marginal": "Means over pairs of arms",
    "equal": "Pairs of arms at equal tuned values",
}
MOST_LINES = 40  # of verdicts that differ, or of arms that share cells


def show_comparison(
    results: Sequence[Result],
    groups: Sequence[Sequence[tuple[Result, Row]]],
    both: Sequence[Both],
    console: Console,
) -> None:
    """Print the studies, their arms, grouped where they are the same, and what any two studies have in common."""
    console.print(_studies(results))
    several = [group for group in groups if len(group) > 1]
    alone = [group for group in groups if len(group) == 1]
    outcomes = _outcomes(results)
    if several:
        console.print("\nThe same recipe on the same activations", style="bold")
        console.print(_arms(several, outcomes), crop=False)
    if alone:
        console.print("\nIn one result only", style="bold")
        console.print(_arms(alone, outcomes), crop=False)
    for two in both:
        lines = [*_shared(two), *_reruns(two), *_verdicts(two)]
        for line in lines or [f"{two.first.name} and {two.second.name} have no cells in common."]:
            console.print(line, soft_wrap=True)


def _studies(results: Sequence[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("study", "results", "activations", "processor", "arms", "cells", "seeds"):
        number = heading in ("arms", "cells", "seeds")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for result in results:
        source, environment = result.study.source, result.study.environment
        activations = f"{source.get('name', '')} {str(source.get('fingerprint', ''))[:8]}".strip()
        processor = ", ".join(str(environment[name]) for name in ("device", "kernels") if environment.get(name))
        counts = (len(result.arms), len(result.cells), len(result.study.seeds))
        table.add_row(Text(result.name), Text(str(result.folder)), Text(activations), processor, *map(str, counts))
    return table


def _outcomes(results: Sequence[Result]) -> list[Metric]:
    """What all of them compare arms by."""
    arms = [result.arms[0] for result in results]
    return [metric for metric in compared(metrics_at("final")) if all(metric.name in arm for arm in arms)]


def _arms(groups: Sequence[Sequence[tuple[Result, Row]]], outcomes: Sequence[Metric]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("study")
    table.add_column("arm")
    table.add_column("tuned")
    for heading in ("n", *(outcome.label for outcome in outcomes)):
        table.add_column(heading, justify="right")
    for group in groups:
        for result, arm in group:
            tuned = describe(levels_in(arm, result.study.tuned))
            figures = [Text(shown(arm, outcome)) for outcome in outcomes]
            table.add_row(Text(result.name), Text(str(arm["arm"])), tuned, str(arm["n"]), *figures)
        if len(group) > 1 and group is not groups[-1]:
            table.add_row()
    return keep_words(table)


def _shared(two: Both) -> Iterator[str]:
    """Shared cells, which are no replication: but those of one study that have other figures are reruns."""
    if two.one_study or not two.shared:
        return
    names = two.first.name, two.second.name
    cells, reported = (sum(getattr(arm, name) for arm in two.shared) for name in ("cells", "reported"))
    yield (
        f"\n{names[0]} and {names[1]} share {plural(cells, 'cell')}, {reported} of them in the figures of both: "
        "where they agree in these arms, one is no replication of the other."
    )
    for arm in two.shared[:MOST_LINES]:
        where = f"{arm.reported} of them in the figures of both"
        yield f"  {arm.arms[0]} ({names[0]}), {arm.arms[1]} ({names[1]}): {plural(arm.cells, 'cell')}, {where}"


def _reruns(two: Both) -> Iterator[str]:
    found = two.reruns
    if found is None or (found.identical == found.cells and not two.one_study):
        return
    yield f"\n{two.first.name} and {two.second.name}: {plural(found.cells, 'cell')} in both, {_alike(found)}."
    if any(found.only):
        yield f"  complete in one of them only: {found.only[0]} in the first, {found.only[1]} in the second"
    for spread, label, unit in ((found.log_fvu, "log FVU", "%"), (found.dead, "dead latents", "points")):
        if spread is not None and found.identical < spread.cells:
            yield f"  {label}: {_spread(spread, unit)}"


def _alike(found: Reruns) -> str:
    parts = [f"{found.identical} with the same figures to the last bit"]
    if found.same_identity < found.cells:
        others = found.cells - found.same_identity
        parts.append(f"{others} with another identity (their activations, code or recipe differ)")
    return ", ".join(parts)


def _spread(spread: Spread, unit: str) -> str:
    """As in `standard deviation 0.31 % between reruns, 0.98 % between seeds (ratio 0.32); mean shift +0.02 %`."""
    seed = ""
    if spread.seed:
        ratio = number(spread.rerun / spread.seed, 2)
        seed = f", {number(100 * spread.seed, 2)} {unit} between seeds (ratio {ratio})"
    rerun, shift = number(100 * spread.rerun, 2), signed(100 * spread.shift, 2)
    return f"standard deviation {rerun} {unit} between reruns{seed}; mean shift {shift} {unit}"


def _verdicts(two: Both) -> Iterator[str]:
    for verdicts in two.verdicts:
        total = verdicts.agree + len(verdicts.differ)
        opposite = f"; {verdicts.opposite} are opposite" if verdicts.opposite else ""
        yield f"\n{KINDS.get(verdicts.kind, verdicts.kind)}: {verdicts.agree} of {total} verdicts agree{opposite}."
        for metric, *rows in verdicts.differ[:MOST_LINES]:
            said = [f"{change(row, metric)}, {row[metric.verdict]}" for row in rows]
            yield f"  {_subject(two, rows[0])}: {said[0]}; in the second {said[1]}"
        if len(verdicts.differ) > MOST_LINES:
            yield f"  and {len(verdicts.differ) - MOST_LINES} more"


def _subject(two: Both, row: Row) -> str:
    """What a row of the effects table compares, as in `dense 2-2 instead of none (adam)`."""
    holding = f" ({row['holding']})" if row["holding"] else ""
    return f"{level_name(two.first.study, row)} instead of {row['reference']}{holding}"
