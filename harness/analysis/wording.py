"""Numbers and effects in words, as the report and the terminal show them."""

from __future__ import annotations

from typing import Any

from harness.analysis.results import Study

Row = dict[str, Any]


def number(value: float | None, digits: int) -> str:
    """A number with a true minus sign; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


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


def plural(count: int, noun: str) -> str:
    """As in `1 seed`, `2 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def effect_sentence(study: Study, effect: Row) -> str:
    """One row of the effects table in words.

    As in `dense 2-2 instead of none (adam): FVU +3.1 % [1.2, 5.0], higher; dead latents +12 points [...], higher.`
    """
    subject = f"{_level(study, effect)} instead of {effect['reference']}"
    if effect["kind"] == "marginal":
        subject += f", mean over {plural(effect['pairs'], 'pair')} of arms"
    elif effect["holding"]:
        subject += f" ({effect['holding']})"
    if not effect["n"]:
        return f"{subject}: no seed has both results."
    if effect["n"] < len(study.seeds):
        subject += f", {plural(effect['n'], 'seed')} only"
    fvu = _change(effect, "fvu_percent", "fvu_verdict", "%")
    dead = _change(effect, "dead_points", "dead_verdict", "points")
    return f"{subject}: FVU {fvu}; dead latents {dead}."


def _level(study: Study, effect: Row) -> str:
    words = all(isinstance(level, str) for level in study.axes[effect["axis"]])
    return str(effect["level"]) if words else f"{effect['axis']} {effect['level']}"


def _change(effect: Row, name: str, verdict: str, unit: str) -> str:
    digits = _digits(effect, name) if effect[verdict] in ("lower", "higher") else 1
    interval = bracket(effect, name, digits)
    change = " ".join(part for part in (signed(effect[name], digits), unit, interval) if part)
    return f"{change}, {effect[verdict]}"


def _digits(effect: Row, name: str) -> int:
    """One digit behind the point; more (up to three) where the end of a real effect would read as zero."""
    smallest = min(abs(effect[f"{name}_{end}"]) for end in ("low", "high"))
    return next((digits for digits in (1, 2) if smallest >= 0.5 * 10**-digits), 3)
