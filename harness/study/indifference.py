"""The changes that do not matter to a study: what is shown to be smaller counts as equal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from harness.metrics import Metric, compared, metrics_at
from harness.yaml_file import YamlFile, near


def read_indifference(file: YamlFile, stated: Mapping[str, Any]) -> dict[str, float]:
    """`{fvu: 2 %, dead: 2 points}` as numbers by the outcomes' short names, in the units of their changes.

    Raises UserError for an outcome that arms are not compared by, another unit, and a number that is not above 0.
    """
    outcomes = compared(metrics_at("final"))
    by_name = {name: outcome for outcome in outcomes for name in (outcome.short, outcome.name, outcome.label)}
    found: dict[str, float] = {}
    for name, text in stated.items():
        where = ("indifference", name)
        if name not in by_name:
            known = [outcome.short for outcome in outcomes]
            raise file.error(where, f"expected one of {', '.join(known)}{near(name, known)}")
        outcome = by_name[name]
        if outcome.short in found:
            raise file.error(where, f"{outcome.label} is here twice")
        if (value := _read(str(text), outcome)) is None:
            raise file.error(
                where, f"expected a number above 0 with its unit, as in {_example(outcome)}, got {text!r}"
            )
        found[outcome.short] = value
    return found


def _read(text: str, outcome: Metric) -> float | None:
    match = re.fullmatch(rf"([0-9.eE+-]+)\s*{re.escape(outcome.change_unit)}", text.strip())
    try:
        value = float(match[1]) if match else math.nan
    except ValueError:
        return None
    possible = 0 < value < (100 if outcome.change == "percent" else math.inf)
    return value if possible else None


def _example(outcome: Metric) -> str:
    return f"'{f'2 {outcome.change_unit}'.strip()}'"
