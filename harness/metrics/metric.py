"""What a metric is: where it is measured, how it is shown, and how arms are compared by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

# Where a metric is measured: on the held-out activations after training; there for each sparse layer; and at the
# points of learning curves, on held-out activations and on the batches that were trained on since the last point.
Place: TypeAlias = Literal["final", "layer", "heldout", "train"]
CURVES: tuple[Place, ...] = ("heldout", "train")

QUALITY = "harness.evaluation.quality:measure"


@dataclass(frozen=True)
class Metric:
    """One metric, at one or several places.

    `name`: its key in results and its column in tables; in points of curves `heldout_<name>` and `train_<name>`.
    `label`, `axis`: what it is called in text and on the axis of a plot. `definition`: one sentence without a full
    stop. In both, `{dead_window}` stands for the study's number of tokens.
    `scale` turns the stored value into the shown one, in `unit` and with `digits` digits after the decimal point.
    `change`: how arms are compared by it: by the difference in percent of the reference, or in points of the shown
    unit. None: arms are not compared by it; it is in tables, on the report page and in MLflow, but in no figure or
    finding. `better`: None where neither direction is.
    `bounds`: the lowest and highest stored value that it can have, None where there is no such bound.
    `optional`: where it is measured, if not everywhere.
    `measured_by`: `module:function` of what measures it; one function may measure several metrics.
    `measured_on`: what that function is given beside the SAE: held-out activations, or the language model on the
    text behind them; where a source has no text, metrics of the latter kind are not measured. Or the tables of
    its latents, which a study asks for (`interpretability`).
    `group`: the final values of one group are drawn in one figure, beside FVU.
    `pairs`: whether a cell's value is its mean over pairs with the other seeds of its arm; the analysis takes into
    account that these are not independent (`harness.inference.pairs`).
    """

    name: str
    label: str
    axis: str
    definition: str
    scale: float = 1
    unit: str = ""
    digits: int = 4
    change: Literal["percent", "points"] | None = None
    better: Literal["lower", "higher"] | None = None
    bounds: tuple[float | None, float | None] = (0, None)
    optional: str = ""
    measured_by: str = QUALITY
    measured_on: Literal["activations", "text", "latents"] = "activations"
    places: tuple[Place, ...] = ("final",)
    group: Literal["reconstruction", "features", "interpretability"] = "reconstruction"
    pairs: bool = False

    def defined(self, dead_window: str = "`dead_window`") -> str:
        """The definition with the dead window in it."""
        return self.definition.replace("{dead_window}", dead_window)

    def drawn_on(self, dead_window: str) -> str:
        """The label of an axis with the dead window in it."""
        return self.axis.replace("{dead_window}", dead_window)

    @property
    def short(self) -> str:
        """What its columns of the effects table begin with."""
        return self.name.removesuffix("_fraction")

    @property
    def effect(self) -> str:
        """The column of the effects table with its change."""
        return f"{self.short}_{self.change}"

    @property
    def change_unit(self) -> str:
        """The unit of a change: `%`, `points` of a percentage, or the shown unit, which may be empty."""
        if self.change == "percent":
            return "%"
        return "points" if self.unit.strip() == "%" else self.unit.strip()

    @property
    def change_digits(self) -> int:
        """Digits of a change after the decimal point: one of percent and points, or else those of the value."""
        return 1 if self.change_unit in ("%", "points") else self.digits

    @property
    def verdict(self) -> str:
        """The column of the effects table with the verdict on that change."""
        return f"{self.short}_verdict"

    def judge(self, verdict: str) -> str:
        """`better`, `worse` or `level`, from a verdict of `harness.analysis.effects.verdicts`."""
        if self.better is None or verdict not in ("lower", "higher"):
            return "level"
        return "better" if verdict == self.better else "worse"
