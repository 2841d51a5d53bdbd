"""Compared arms that stand at different tuned values, and how much these alone change within each of the two."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.results.levels import Key, levels_in
from harness.analysis.sentences.text import listed, plural, signed
from harness.analysis.views.view import Row, View
from harness.metrics import DEAD, FVU
from harness.study.labels import describe

MOST_PAIRS = 6  # that get a line of their own; the others are in the tables


def apart(view: View) -> list[Row]:
    """The first row of the senses table of each pair of arms that stand at different tuned values."""
    chosen = _chosen(view)
    return [row for row in _pairs(view) if chosen[row["arm"]] != chosen[row["reference_arm"]]]


def _pairs(view: View) -> list[Row]:
    """The first row of the senses table of each pair of arms that both have results."""
    rows = {(row["axis"], row["arm"]): row for row in reversed(view.tables["senses"])}
    return [row for row in reversed(rows.values()) if not row["reason"]]


def _chosen(view: View) -> dict[str, Key]:
    return {arm["arm"]: tuple(levels_in(arm, view.study.tuned).values()) for arm in view.arms}


def warnings(view: View) -> Iterator[str]:
    """That lr differs between compared arms, and how much it moves within each of the two."""
    points, chosen, different = _points(view), _chosen(view), apart(view)
    if not different:
        return
    tuned = listed(view.study.tuned)
    yield (
        f"{len(different)} of {plural(len(_pairs(view)), 'pair')} of compared arms stand at different {tuned}, so "
        f"their comparison is of {tuned}, too{_largest_moves(view, points)}. Effects at equal {tuned}: rows of "
        "kind `equal` in the effects table."
    )
    moves = []
    for row in different:
        arms = row["arm"], row["reference_arm"]
        moves.append((_moves(view, points, arms, (chosen[arms[1]], chosen[arms[0]])), arms))
    moves.sort(key=lambda move: -move[0][0])
    for (_, told), arms in moves[:MOST_PAIRS]:
        at = [_named(view, chosen[arm]) for arm in arms]
        yield f"“{arms[0]}” stands at {at[0]}, “{arms[1]}”, which it is compared with, at {at[1]}. {told}."


def _points(view: View) -> dict[tuple[str, Key], Row]:
    """The frontier table's rows that have a result, by arm and setting."""
    rows = [row for row in view.tables["frontier"] if row[FVU.name] is not None]
    return {(row["arm"], tuple(levels_in(row, view.study.tuned).values())): row for row in rows}


def _largest_moves(view: View, points: dict[tuple[str, Key], Row]) -> str:
    """How far apart the settings of one arm are at most."""
    spans = {}
    for arm in view.arms:
        rows = [row for (label, _), row in points.items() if label == arm["arm"]]
        dead = [DEAD.scale * row[DEAD.name] for row in rows if row[DEAD.name] is not None]
        fvu = [row[FVU.name] for row in rows]
        if len(fvu) > 1 and min(fvu) > 0:
            spans[arm["arm"]] = (max(dead) - min(dead) if dead else 0.0, 100 * (max(fvu) / min(fvu) - 1))
    if not spans:
        return ""
    points_dead, dead_arm = max((span[0], arm) for arm, span in spans.items())
    percent, fvu_arm = max((span[1], arm) for arm, span in spans.items())
    return (
        f": within one arm it moves dead latents by up to {points_dead:.1f} points ({dead_arm}) and FVU by up to "
        f"{percent:.1f} % ({fvu_arm})"
    )


def _moves(
    view: View, points: dict[tuple[str, Key], Row], arms: tuple[str, str], settings: tuple[Key, Key]
) -> tuple[float, str]:
    """What going from one setting to the other changes within each arm; first the most points of dead latents."""
    told, lacking, largest = [], [], 0.0
    for arm in arms:
        start, end = (points.get((arm, setting)) for setting in settings)
        if start is None or end is None:
            lacking.append(f"“{arm}” has no result at {_named(view, settings[0 if start is None else 1])}")
            continue
        change_of_fvu = f"FVU {signed(100 * (end[FVU.name] / start[FVU.name] - 1))} %" if start[FVU.name] else "–"
        if start[DEAD.name] is None or end[DEAD.name] is None:
            told.append(f"within “{arm}” {change_of_fvu}")
            continue
        dead = [DEAD.scale * row[DEAD.name] for row in (start, end)]
        largest = max(largest, abs(dead[1] - dead[0]))
        told.append(f"within “{arm}” dead latents go from {dead[0]:.1f} % to {dead[1]:.1f} % ({change_of_fvu})")
    between = f"from {_named(view, settings[0])} to {_named(view, settings[1])}"
    parts = [f"{between}, {listed(told)}"] if told else []
    words = "; ".join([*parts, *([listed(lacking)] if lacking else [])])
    return largest, words[:1].upper() + words[1:]


def _named(view: View, setting: Key) -> str:
    return describe(dict(zip(view.study.tuned, setting, strict=True)))
