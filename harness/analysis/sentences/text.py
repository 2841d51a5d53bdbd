"""Numbers and effects in words, as the report and the terminal show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.comparability.l0 import against, unequal
from harness.analysis.effects.contrasts import f_words
from harness.analysis.effects.verdicts import UNDECIDED
from harness.analysis.results.records import StudyRecord
from harness.inference.constants import ALPHA
from harness.inference.sample_size import MOST_SEEDS
from harness.metrics import Metric

Row = dict[str, Any]


def number(value: float | None, digits: int) -> str:
    """A number with a true minus sign; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def count(value: float) -> str:
    """A large count in short: 64k, 0.5M, 7.5B, 1.2T."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def signed(value: float, digits: int = 1) -> str:
    """A change with its sign, as in `+3.1` or `−0.4`."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no "−0.0"


def bracket(row: Row, name: str, digits: int, scale: float = 1.0) -> str:
    """The interval of a figure, as in `[1.2, 5.0]`; empty where there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return ""
    return f"[{number(scale * low, digits)}, {number(scale * high, digits)}]"


def estimate(row: Row, name: str, digits: int, scale: float = 1.0, unit: str = "") -> str:
    """Mean and interval, as in `0.1003 [0.0974, 0.1032]` or `1.3 % [1.1, 1.5]`."""
    if row[name] is None:
        return "–"
    return f"{number(scale * row[name], digits)}{unit} {bracket(row, name, digits, scale)}".strip()


def capitalized(text: str) -> str:
    """With a capital at its beginning, and all else as it is."""
    return f"{text[:1].upper()}{text[1:]}"


def quoted(names: Sequence[str]) -> str:
    """As in `“none, adam” and “none, muon”`: names that may have commas in them."""
    return listed([f"“{name}”" for name in names])


def plural(count: int, noun: str) -> str:
    """As in `1 seed`, `2 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(words: Sequence[str]) -> str:
    """As in `FVU`, `FVU and MCC`, or `FVU, MCC and F1`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def mean(row: Row, outcome: Metric) -> str:
    """An outcome's mean in the shown unit, which is left out."""
    return number(None if row[outcome.name] is None else outcome.scale * row[outcome.name], outcome.digits)


def shown(row: Row, outcome: Metric) -> str:
    """An outcome's mean and interval in the shown unit."""
    return estimate(row, outcome.name, outcome.digits, outcome.scale, outcome.unit)


def effect_sentence(study: StudyRecord, effect: Row, outcomes: Sequence[Metric], reach: Row | None = None) -> str:
    """One row of the effects table, and what the reach table has on it, in words.

    As in `dense 2-2 instead of none (adam): FVU +3.1 % [1.2, 5.0], higher; dead latents +1.2 points [−0.1, 2.5],
    undecided (9 seeds in each arm would settle it).`
    """
    subject = f"{level_name(study, effect)} instead of {effect['reference']}"
    if effect["kind"] == "marginal" and effect["pairs"]:
        subject += f", mean over {plural(effect['pairs'], 'pair')} of arms"
    elif effect["holding"]:
        subject += f" ({effect['holding']})"
    seeds = effect["n"], effect["n_reference"]
    if not all(seeds):
        return f"{subject}: no change, since an arm has no result."
    if min(seeds) < len(study.seeds):
        subject += f", {plural(seeds[0], 'seed')} " + ("only" if seeds[0] == seeds[1] else f"against {seeds[1]}")
    known = [outcome for outcome in outcomes if effect[outcome.effect] is not None]
    undefined = [outcome for outcome in outcomes if outcome.change == "percent" and outcome not in known]
    clauses = [f"no change of {outcome.label} in percent, since one of the figures is 0" for outcome in undefined]
    clauses += [_changed(effect, outcome) for outcome in known]
    if unequal(study, effect):
        clauses.insert(1, f"L0 {against(effect)}")  # after FVU, which depends on it
    if reach is not None and reach["n"]:
        clauses += _reach(reach)
    return f"{subject}: {'; '.join(clauses) or 'not measured'}."


def _changed(effect: Row, outcome: Metric) -> str:
    """Change and verdict; of a marginal row whose contexts differ, the range of these instead of their mean."""
    name = f"{outcome.short}_contexts"
    if not effect[f"{name}_differ"]:
        return f"{change(effect, outcome)}, {verdict(effect, outcome)}"
    low, high = (signed(effect[f"{name}_{end}"], outcome.change_digits) for end in ("low", "high"))
    unit = f" {outcome.change_unit}" if outcome.change_unit else ""
    return f"{outcome.label} from {low} to {high}{unit}, depending on the other axes ({f_words(effect, name)})"


def halfway(reach: Row) -> tuple[str, str]:
    """A row of the reach table in two parts: `61 %`, `[55, 67]`, or `not reached`, `by 1 of 3 seeds`."""
    if not reach["halfway_not_reached"]:
        return f"{number(reach['halfway_percent'], 0)} %", bracket(reach, "halfway_percent", 0)
    if reach["halfway_not_reached"] == reach["n"]:
        return "not reached", ""
    return "not reached", f"by {reach['halfway_not_reached']} of {plural(reach['n'], 'seed')}"


def reached(reach: Row) -> str:
    """How often an arm reached its reference's final FVU: `3 of 3 seeds`."""
    return f"{reach['reached']} of {plural(reach['n'], 'seed')}"


def _reach(reach: Row) -> list[str]:
    share = " ".join(halfway(reach)).strip()
    if reach["halfway_not_reached"]:
        clauses = [f"the reference's FVU at half-time is {share}"]
    else:
        clauses = [f"reaches the reference's FVU at half-time after {share} of the tokens until then"]
    return [*clauses, f"reaches its final FVU in {reached(reach)}"]


def level_name(study: StudyRecord, effect: Row) -> str:
    """The level that an effect is of, as in `dense 2-2` or `k 32`."""
    words = all(isinstance(level, str) for level in study.axes[effect["axis"]])
    return str(effect["level"]) if words else f"{effect['axis']} {effect['level']}"


def change(effect: Row, outcome: Metric) -> str:
    """As in `FVU −3.1 % [−5.0, −1.2]`."""
    name = outcome.effect
    digits = outcome.change_digits
    if effect[outcome.verdict] in ("lower", "higher"):
        digits = max(digits, _digits(effect, name))
    parts = (outcome.label, signed(effect[name], digits), outcome.change_unit, bracket(effect, name, digits))
    return " ".join(part for part in parts if part)


def verdict(effect: Row, outcome: Metric) -> str:
    """As in `lower`, `equal within 2 %` or `undecided (9 seeds in each arm would settle it)`."""
    said = str(effect[outcome.verdict])
    if said != UNDECIDED:
        return said
    needed, p, p_holm = (effect[f"{outcome.short}_{name}"] for name in ("seeds_needed", "p", "p_holm"))
    seeds = f"over {MOST_SEEDS:,}" if needed is None else f"{needed:.0f}"
    alone = f"p = {p:.2g}, or {p_holm:.2g} beside the other comparisons; " if p <= ALPHA else ""
    return f"{said} ({alone}{seeds} seeds in each arm would settle it)"


def _digits(effect: Row, name: str) -> int:
    """One digit after the decimal point; more (up to three) where the end of a real effect would read as zero."""
    smallest = min(abs(effect[f"{name}_{end}"]) for end in ("low", "high"))
    return next((digits for digits in (1, 2) if smallest >= 0.5 * 10**-digits), 3)
