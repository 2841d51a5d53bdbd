"""What a reader should know where results decided which cells there are: extended lists and planned looks."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.results.levels import levels_in
from harness.analysis.results.records import Extended
from harness.analysis.sentences.text import plural
from harness.analysis.views.view import View


def searches(view: View) -> Iterator[str]:
    """Arms whose search was extended and ended before their best value was inside the list."""
    for axis, extended in view.study.extended.items():
        for why in ("limit", "no further value"):
            if arms := [_arm(view, one) for one in extended if one.ended == why]:
                reason = "its limit of added values" if why == "limit" else "the last value that can be trained"
                yield f"The search for {axis} ended at {reason}, with the best one at the end: {'; '.join(arms)}."


def looks(view: View) -> Iterator[str]:
    """Arms with fewer seeds than others, since a look had decided about them."""
    if not view.study.looks:
        return
    states = ("n", "diverged", "pruned", "failed", "missing")
    seeds = {arm["arm"]: sum(arm[state] for state in states) for arm in view.arms}
    early = [f"{arm} ({count})" for arm, count in seeds.items() if count < len(view.study.seeds)]
    listed = ", ".join(str(count) for count in view.study.looks)
    text = f"Planned looks after {listed} seeds; {plural(len(view.study.seeds), 'seed')} were needed"
    yield f"{text}, and fewer by arms that were decided earlier: {'; '.join(early)}." if early else f"{text}."


def _arm(view: View, one: Extended) -> str:
    key = view.study.key(one.arm)
    rows = [row for row in view.arms if view.study.key(levels_in(row, view.study.compared)) == key]
    return str(rows[0]["arm"]) if rows else str(one.arm)
