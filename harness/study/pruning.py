"""Rules by which a study stops cells early because others do better; by default there is none.

A cell is compared with those before it in the order in which cells are handed out: harness/sweep/pruner.py.

Pruning biases an ablation, since it removes the worse cells. A cell that diverges is always stopped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.yaml_file import Strict, YamlFile

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10_000)]


class Median(Strict):
    """Stops a cell whose best held-out FVU so far is above the median of the cells before it at that step."""

    kind: Literal["median"] = "median"
    startup: Count = 5  # earlier cells that must have reached the step before a cell is stopped
    warmup: Share = 0.25  # share of its steps during which a cell is not stopped


class Percentile(Strict):
    """The same with another percentile: 25 stops all but the best quarter."""

    kind: Literal["percentile"] = "percentile"
    percentile: Annotated[float, Field(gt=0, lt=100)]
    startup: Count = 5
    warmup: Share = 0.25


class SuccessiveHalving(Strict):
    """Lets a cell continue at a rung if it is among the best 1/`reduction` of the cells up to it that reached it.

    Each rung is at `reduction` times the step of the one before.
    """

    kind: Literal["successive_halving"] = "successive_halving"
    reduction: Annotated[int, Field(ge=2, le=100)] = 4
    warmup: Share = 0.25  # where the first rung is


class Threshold(Strict):
    """Stops a cell whose held-out FVU is above a bound, without comparing cells."""

    kind: Literal["threshold"] = "threshold"
    fvu: Annotated[float, Field(gt=0)]
    warmup: Share = 0.25


Pruning = Median | Percentile | SuccessiveHalving | Threshold
KINDS: dict[str, type[Pruning]] = {
    "median": Median,
    "percentile": Percentile,
    "successive_halving": SuccessiveHalving,
    "threshold": Threshold,
}


def read_pruning(file: YamlFile, raw: Any) -> Pruning | None:
    """The value of the key `pruning`: `none`, `divergence` (the same), `{kind: settings}`. Raises UserError."""
    if raw in ("none", "divergence"):
        return None
    if not isinstance(raw, dict) or len(raw) != 1 or (kind := next(iter(raw))) not in KINDS:
        raise file.error(("pruning",), f"expected none, divergence or one of {', '.join(KINDS)} with its settings")
    settings = {} if raw[kind] is None else raw[kind]
    if isinstance(settings, dict) and "kind" in settings:
        raise file.error(("pruning", kind, "kind"), "unknown key")
    pruning: Pruning = file.check(KINDS[kind], settings, ("pruning", kind))
    return pruning
