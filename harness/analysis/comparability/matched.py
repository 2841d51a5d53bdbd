"""Both arms of a pair with as many alive latents or parameters, read between neighbours that are there.

A reason, in words, where there are none: nothing is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from harness.analysis.arms.arm import Arm
from harness.analysis.comparability.budgets import Costs, between, equal
from harness.analysis.effects.comparisons import Pair
from harness.analysis.results.levels import Key
from harness.analysis.results.records import CellRecord, Figures, StudyRecord
from harness.metrics import DEAD, FVU, L0
from harness.study.tuned_choice import Choice

ALIVE = "alive"
AS_MANY = "as many"  # both sides have, as they are reported


@dataclass(frozen=True)
class Matched:
    """The pair where both sides have `value` of it. `how`: in words, where these figures are from."""

    pair: Pair
    value: float
    how: str


def with_figures(arm: Arm, figures: Callable[[CellRecord], Figures | None]) -> Arm:
    """The arm with other held-out figures of each cell; what it was chosen by stays."""

    def changed(cell: CellRecord) -> CellRecord:
        return cell.model_copy(update={"heldout": figures(cell), "score": cell.chosen_by})

    settings = {
        name: {seed: changed(cell) for seed, cell in cells.items()} for name, cells in arm.settings.items()
    }
    return replace(arm, settings=settings)


def with_cells(arm: Arm, cells: Mapping[int, CellRecord]) -> Arm:
    """The arm as if it had these cells alone, by seed."""
    shown = arm.choice.shown
    choice: Choice[Key] = Choice(shown, dict.fromkeys(cells, shown), "not tuned")
    return Arm(arm.levels, arm.label, {shown: dict(cells)}, choice)


def at_equal_alive(study: StudyRecord, pair: Pair) -> Matched | str:
    """One side as it is reported, the other one between its settings, where it has as many alive latents."""
    own, other = (_mean(arm.values(ALIVE)) for arm in (pair.arm, pair.reference))
    if own is None or other is None:
        return "no figure of alive latents"
    if equal(own, other):
        return Matched(pair, other, AS_MANY)
    spans = [_span(study, arm, mean) for arm, mean in ((pair.arm, own), (pair.reference, other))]
    for value, (low, high), moved in ((other, spans[0], pair.arm), (own, spans[1], pair.reference)):
        if low <= value <= high and (found := _interpolated(study, moved, value)) is not None:
            return Matched(_with(pair, moved, found), value, f"{moved.label} between its tuned settings")
    (low, high), (other_low, other_high) = spans
    return (
        f"no tuned settings with as many: {low:,.0f} to {high:,.0f} alive latents "
        f"against {other_low:,.0f} to {other_high:,.0f}"
    )


def _searched(study: StudyRecord, arm: Arm) -> Sequence[int]:
    """The seeds of which it has all settings."""
    return arm.searched(study) if len(arm.settings) > 1 else study.seeds


def _finished(cells: Mapping[int, CellRecord], seeds: Sequence[int]) -> dict[int, CellRecord]:
    known = {seed: cells[seed] for seed in seeds if seed in cells}
    return {seed: cell for seed, cell in known.items() if cell.chosen_by is not None}


def _with(pair: Pair, side: Arm, other: Arm) -> Pair:
    """The pair with another arm in place of one of its sides."""
    return replace(pair, arm=other) if side is pair.arm else replace(pair, reference=other)


def _span(study: StudyRecord, arm: Arm, mean: float) -> tuple[float, float]:
    """The fewest and the most alive latents at a setting of the arm, in the mean over its seeds."""
    seeds = _searched(study, arm)
    found = ([cell.figure(ALIVE) for cell in _finished(cells, seeds).values()] for cells in arm.settings.values())
    means = [fmean(known) for values in found if (known := [v for v in values if v is not None])]
    return (min(means), max(means)) if len(means) > 1 else (mean, mean)


def _interpolated(study: StudyRecord, arm: Arm, alive: float) -> Arm | None:
    """The arm with this many alive latents at every seed: log FVU linear in them, between its settings."""
    seeds = _searched(study, arm)
    cells: dict[int, CellRecord] = {}
    for seed in seeds:
        there = [known[seed] for by_seed in arm.settings.values() if seed in (known := _finished(by_seed, seeds))]
        points = sorted(
            {(float(cell.figure(ALIVE) or 0.0), math.log(cell.figure(FVU.name) or 1.0)) for cell in there}
        )
        log_fvu = between(points, alive)
        if log_fvu is not None:
            figures = {FVU.name: math.exp(log_fvu), L0.name: there[0].figure(L0.name)}
            cells[seed] = there[0].model_copy(update={"heldout": figures, "score": there[0].chosen_by})
    return with_cells(arm, cells) if cells else None


def at_equal_parameters(
    arms: Sequence[Arm], pair: Pair, costs: Mapping[str, Costs | None], axis: str
) -> Matched | str:
    """One side in a size that the other one has: another arm that differs from it in one more axis, or a value
    between two of these."""
    own, other = (costs[arm.label] for arm in (pair.arm, pair.reference))
    if own is None or other is None:
        return "no result"
    if equal(own.parameters, other.parameters):
        return Matched(pair, other.parameters, AS_MANY)
    for base, wanted in ((pair.reference, own.parameters), (pair.arm, other.parameters)):
        for family in _families(arms, base, axis):
            found = _of_size(family, base, wanted, costs)
            if found is not None:
                arm, how = found
                return Matched(_with(pair, base, arm), wanted, how)
    return (
        f"{own.parameters:,} against {other.parameters:,}, and no arm that differs from one of them in one more "
        "axis has as many"
    )


def _families(arms: Sequence[Arm], base: Arm, axis: str) -> Iterator[list[Arm]]:
    """For each axis but this one: the arms that differ from `base` in nothing else."""
    for other in base.levels:
        if other != axis:
            rest = {name: level for name, level in base.levels.items() if name != other}
            yield [arm for arm in arms if rest.items() <= arm.levels.items()]


def _of_size(
    family: Sequence[Arm], base: Arm, wanted: float, costs: Mapping[str, Costs | None]
) -> tuple[Arm, str] | None:
    """`base` as if it had that many parameters, and how: an arm of the family, or two neighbours in size."""
    sized = sorted(
        ((cost.parameters, arm) for arm in family if (cost := costs[arm.label])), key=lambda pair: pair[0]
    )
    for parameters, arm in sized:
        if equal(parameters, wanted):
            return replace(arm, levels=base.levels, label=base.label), f"in place of {base.label}: {arm.label}"
    smaller, larger = ([one for one in sized if (one[0] < wanted) == below] for below in (True, False))
    if not smaller or not larger:
        return None
    (low, under), (high, over) = smaller[-1], larger[0]
    share = math.log(wanted / low) / math.log(high / low)
    small, large = under.finished(), over.finished()
    cells = {seed: _mixed(small[seed], large[seed], share) for seed in small if seed in large}
    if not cells:
        return None
    arm = replace(with_cells(under, cells), levels=base.levels, label=base.label)
    return arm, f"between {under.label} and {over.label}"


def _mixed(small: CellRecord, large: CellRecord, share: float) -> CellRecord:
    """A cell between two in size: log FVU linear in the logarithm of the parameters, other figures themselves."""
    figures: Figures = {}
    for name in (FVU.name, DEAD.name, L0.name):
        low, high = small.figure(name), large.figure(name)
        if low is not None and high is not None:
            scale = name == FVU.name and low > 0 and high > 0
            mean = (1 - share) * (math.log(low) if scale else low) + share * (math.log(high) if scale else high)
            figures[name] = math.exp(mean) if scale else mean
    return small.model_copy(update={"heldout": figures, "score": small.chosen_by})


def _mean(values: Mapping[int, float]) -> float | None:
    return fmean(values.values()) if values else None
