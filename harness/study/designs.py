"""The design of a study: which settings of its axes are trained."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.study.axes import Axis
from harness.yaml_file import Location, Strict, YamlFile, shown

Named = Literal["factorial", "one_factor", "leave_one_out"]
Kind = Literal[Named, "fraction", "sampled"]
Sampler = Literal["qmc", "random"]  # of Optuna

EXPECTED = "'factorial', 'one_factor', 'leave_one_out', {fraction: 1/2} or {sampled: 40}"


class FractionForm(Strict):
    """A balanced part of all arms: a share of them, as text such as `1/2`, or their number."""

    fraction: Any


class SampledForm(Strict):
    """A number of arms drawn from the axes' ranges and levels."""

    sampled: Annotated[int, Field(ge=1, le=10_000)]
    sampler: Sampler = "qmc"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


@dataclass(frozen=True)
class Design:
    """Which settings of the axes a study asks for. A tuned axis always keeps all its values.

    factorial: all. one_factor: at most one axis off the baseline. leave_one_out: the full recipe, and the full
    recipe with one axis at its first level. fraction: a balanced part of the factorial. sampled: drawn ones.
    part: of a fraction, the number of arms or their share. arms, sampler, seed: of a sampled design.
    """

    kind: Kind = "factorial"
    part: int | Fraction = 1
    arms: int = 0
    sampler: Sampler = "qmc"
    seed: int = 0

    def arms_of(self, total: int) -> int:
        """How many of all arms a fraction asks for; a share is rounded up."""
        return self.part if isinstance(self.part, int) else math.ceil(self.part * total)


def read_design(file: YamlFile, raw: object) -> Design:
    """The design of a study file. Raises UserError."""
    if isinstance(raw, dict) and "fraction" in raw:
        fraction: FractionForm = file.check(FractionForm, raw, ("design",))
        return Design("fraction", part=_part(file, fraction.fraction))
    if isinstance(raw, dict) and "sampled" in raw:
        form: SampledForm = file.check(SampledForm, raw, ("design",))
        return Design("sampled", arms=form.sampled, sampler=form.sampler, seed=form.seed)
    if raw not in ("factorial", "one_factor", "leave_one_out"):
        raise file.error(("design",), f"expected {EXPECTED}, got {shown(raw)}")
    return Design(raw)


def check_axes(file: YamlFile, axes: Sequence[Axis], design: Design) -> None:
    """Raise UserError for the first axis that the design cannot have."""
    tuned = {axis.name for axis in axes if axis.tune}
    for axis in axes:
        where: Location = ("axes", axis.name)
        if axis.ranges and axis.tune:
            raise file.error(where, "expected values, since a tuned axis is searched at each of them, got a range")
        if axis.ranges and design.kind != "sampled":
            raise file.error(where, "expected values, since ranges are for 'design: {sampled: 40}', got a range")
        if axis.parent in tuned and not axis.tune and design.kind in ("leave_one_out", "fraction", "sampled"):
            message = f"expected a condition on an axis that is not tuned, since {design.kind} is of arms"
            raise file.error((*where, "when", axis.parent), message)
        if design.kind == "leave_one_out" and not axis.tune:
            _check_two(file, axis)


def _check_two(file: YamlFile, axis: Axis) -> None:
    """Raise UserError unless the axis has one level without the component, and one with it."""
    levels = {None: axis.values} if axis.parent is None else dict(axis.by_parent)
    for within, values in levels.items():
        if len(values) > 2 or (axis.parent is None and len(values) < 2):
            where = () if axis.parent is None else ("when", axis.parent, str(within))
            expected = "expected two levels with leave_one_out: without the component, and with it"
            raise file.error(("axes", axis.name, *where), f"{expected}, got {len(values)}")


def _part(file: YamlFile, raw: object) -> int | Fraction:
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 2:
        return raw
    if isinstance(raw, str) and (found := re.fullmatch(r"([1-9]\d{0,5}) ?/ ?([1-9]\d{0,5})", raw)):
        share = Fraction(int(found[1]), int(found[2]))
        if share < 1:
            return share
    expected = "expected a share such as 1/2, or a number of arms (2 or more)"
    raise file.error(("design", "fraction"), f"{expected}, got {shown(raw)}")
