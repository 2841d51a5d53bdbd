"""What speaks against relying on the findings, in sentences for the report and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.activations import massive
from harness.analysis.comparability import sentences as comparability
from harness.analysis.comparability.l0 import TOLERANCE, against, unequal
from harness.analysis.interpretability import nulls
from harness.analysis.interpretability import warnings as interpretability
from harness.analysis.results.levels import levels_in
from harness.analysis.sentences import undercoverage
from harness.analysis.sentences.asked import looks, searches
from harness.analysis.sentences.certainty import open_choices
from harness.analysis.sentences.design_limits import design_limits, effects_not_estimated
from harness.analysis.sentences.text import capitalized, level_name, plural
from harness.analysis.views.view import Row, View
from harness.study.labels import describe

MOST_PAIRS = 5  # that one warning names


def warnings(view: View) -> list[str]:
    """Everything that weakens the findings, most general first."""
    return [
        *_activations(view),
        *design_limits(view),
        *effects_not_estimated(view),
        *_seeds(view),
        *undercoverage.warnings(view),
        *_l0(view),
        *_pruned(view),
        *_lost(view),
        *_not_measured(view),
        *_not_finite(view),
        *_selection(view),
        *open_choices(view),
        *_not_compared(view),
        *_edges(view),
        *comparability.warnings(view),
        *searches(view),
        *looks(view),
        *interpretability.warnings(view),
        *nulls.warnings(view),
    ]


def _activations(view: View) -> Iterator[str]:
    """Of results that say what was measured of the activations."""
    if "measured" in view.study.source:
        for line in massive.warnings(view.study.source["measured"]):
            yield f"{capitalized(line)}."


def _seeds(view: View) -> Iterator[str]:
    n = len(view.study.seeds)
    if n == 1:
        in_sample = view.study.tuned and not view.study.tuning_seeds
        tuned = ", and tuned values were chosen on the very seed that is reported" if in_sample else ""
        yield f"One seed: there are no intervals, a difference may be luck{tuned}."


def _l0(view: View) -> Iterator[str]:
    pairs = [e for e in view.tables["effects"] if e["kind"] == "pair" and unequal(view.study, e)]
    if pairs:
        listed = "; ".join(f"{_pair(view, effect)}: {against(effect)}" for effect in pairs[:MOST_PAIRS])
        if len(pairs) > MOST_PAIRS:
            listed += f"; and {len(pairs) - MOST_PAIRS} more"
        yield (
            f"Held-out L0 differs by more than {100 * TOLERANCE:.0f} % between compared arms, so their FVU is not "
            f"compared at equal L0: {listed}."
        )


def _pair(view: View, effect: Row) -> str:
    where = f" ({effect['holding']})" if effect["holding"] else ""
    return f"{level_name(view.study, effect)} instead of {effect['reference']}{where}"


def _pruned(view: View) -> Iterator[str]:
    cells = view.tables["cells"]
    count = sum(cell["state"] == "pruned" for cell in cells)
    if count:
        yield (
            f"{count} of {plural(len(cells), 'cell')} were pruned, so their final figures are unknown "
            "(censored), so an arm with a pruned seed has no mean and no effect; that of its survivors would be "
            "biased towards low FVU."
        )
    for arm in view.arms:
        if arm["pruned"]:
            yield f"{arm['arm']}: {arm['pruned']} of {plural(len(view.study.seeds), 'seed')} pruned, no mean."


def _lost(view: View) -> Iterator[str]:
    cells = view.tables["cells"]
    if len(cells) != view.study.cells:
        yield f"The design asks for {plural(view.study.cells, 'cell')}, the results list {len(cells)}."
    for cell in cells:
        if cell["state"] != "complete":
            yield f"{_cell_name(view, cell)}: {cell['state']}" + (
                f" ({cell['reason']})." if cell["reason"] else "."
            )
    for arm in view.arms:
        if (lost := sum(arm[state] for state in ("diverged", "failed", "missing"))) and not arm["pruned"]:
            yield f"{arm['arm']}: reported on {arm['n']} of {plural(arm['n'] + lost, 'seed')}."


def _cell_name(view: View, cell: Row) -> str:
    arm = view.arm_label(cell) if view.study.compared else ""
    tuned = describe(levels_in(cell, view.study.tuned))
    seed = f"{'tuning ' * (cell['seed'] in view.study.tuning_seeds)}seed {cell['seed']}"
    return ", ".join(part for part in (arm, tuned, seed) if part)


def _not_measured(view: View) -> Iterator[str]:
    """One warning for all cells that lack the same figures: a changed metric may concern hundreds."""
    lacking = Counter(cell["not_measured"] for cell in view.tables["cells"] if cell["not_measured"])
    for names, count in lacking.items():
        yield (
            f"{plural(count, 'cell')}: not measured: {names}. `harness evaluate` measures those whose SAEs were "
            "kept; `harness plan` says what training the others again would cost."
        )


def _not_finite(view: View) -> Iterator[str]:
    for cell in view.tables["cells"]:
        if cell["not_finite"]:
            yield f"{_cell_name(view, cell)}: left out, since not finite: {cell['not_finite']}."


def _selection(view: View) -> Iterator[str]:
    for arm in view.arms:
        if arm["selection"] == "unselected":
            why = "since its settings have no seed in common at which they have a result"
            yield f"{arm['arm']}: no tuned value was chosen, {why}; it is shown at the first one."
        elif arm["selection"] == "in-sample" and len(view.study.seeds) > 1:
            yield f"{arm['arm']}: its tuned value was chosen on the very seed it is reported on (in-sample)."
        elif arm["selection"] == "cross-fitted" and len({*arm["agreement"].split()[:3:2]}) > 1:  # not n of n
            yield f"{arm['arm']}: the shown tuned value is that of {arm['agreement']}; other seeds chose another."


def _not_compared(view: View) -> Iterator[str]:
    """Settings that `harness.study.tuned_choice.comparable` leaves out."""
    for arm in view.arms:
        rows = [row for row in view.tables["tuning"] if row["arm"] == arm["arm"]]
        most = max((row["n"] for row in rows), default=0)
        for row in rows:
            if row["n"] < most:
                tuned = describe(levels_in(row, view.study.tuned))
                seeds = f"{row['n']} of {plural(row['n'] + row['lost'], 'seed')}"
                why = "so it was not compared with its other settings"
                yield f"{arm['arm']}, {tuned}: a result at {seeds} only, {why}."


def _edges(view: View) -> Iterator[str]:
    for row in view.tables["tuning"]:
        if row["chosen"] and row["at_edge"]:
            tuned = describe(levels_in(row, view.study.tuned))
            yield f"{row['arm']}: best at {tuned} ({row['edges']} of its list); a better value may lie beyond."
