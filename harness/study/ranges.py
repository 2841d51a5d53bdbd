"""A range of numbers, from which a sampled design draws the levels of an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.yaml_file import Location, Strict, YamlFile, shown


class RangeForm(Strict):
    """A range as a study file has it. log: drawn evenly in the logarithm."""

    low: Any
    high: Any
    log: bool = False


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included. whole: whole numbers alone."""

    low: float
    high: float
    log: bool
    whole: bool

    def __str__(self) -> str:
        """As in `0.001 to 0.1 (log)`."""
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def as_range(file: YamlFile, form: RangeForm, low: object, high: object, whole: bool, where: Location) -> Range:
    """The range between two values of a recipe field. Raises UserError."""
    for key, end in (("low", low), ("high", high)):
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise file.error((*where, key), f"expected a number, got {shown(end)}")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if not low < high:
        raise file.error((*where, "high"), f"expected more than low ({low:g}), got {high:g}")
    if form.log and low <= 0:
        raise file.error((*where, "low"), f"expected more than 0, since log is true, got {low:g}")
    return Range(low, high, form.log, whole)
