"""The sweep's records, study and cells, as the analysis knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from harness.analysis.results.levels import Key, Level, unambiguous
from harness.errors import SettingError
from harness.sae.sizes import apportion
from harness.study.catalogue import parse_layers
from harness.study.labels import describe
from harness.study.recipe import Scalar

State: TypeAlias = Literal["complete", "diverged", "pruned", "failed", "missing"]

CURVE_TOKENS = 2048  # held-out tokens of a point of a curve before study.json said how many
Figures: TypeAlias = dict[str, float | None]  # by the names of `harness.metrics`; None: there is none


class Record(BaseModel):
    """A record of the sweep; keys that the analysis does not know are left alone."""

    model_config = ConfigDict(frozen=True)


class CellRecord(Record):
    """One trained (or lost) cell. `tokens`: trained on; `flops_per_token`: of a training step.

    `heldout`: figures on the held-out activations; `layers`: those of each sparse layer.
    `score`: held-out FVU when training ended. `not_measured`: metrics that lack their figures, though the cell is
    complete. `not_finite`: figures that were left out, see `harness.analysis.results.finite`.
    `sae`: the folder of its trained SAE, from the workspace's root; None where it is not kept.
    """

    cell: str
    arm: dict[str, Scalar]
    tuned: dict[str, Scalar]
    seed: int
    state: State
    reason: str | None = None
    sae: str | None = None
    score: float | None = None
    not_measured: tuple[str, ...] = ()
    heldout: Figures | None = None
    layers: list[Figures] = []
    parameters: int
    flops_per_token: float
    tokens: int
    not_finite: tuple[str, ...] = ()

    @property
    def fvu(self) -> float | None:
        """Held-out FVU of a complete cell."""
        return self.figure("fvu") if self.state == "complete" else None

    @property
    def chosen_by(self) -> float | None:
        """The score of a complete cell, by which tuned values are chosen; results without one have the FVU."""
        return None if self.state != "complete" else self.fvu if self.score is None else self.score

    def figure(self, metric: str) -> float | None:
        """A figure on the held-out activations, None where there is none."""
        return None if self.heldout is None else self.heldout.get(metric)


class PublishedFigures(Record):
    """Figures of others to show beside the study's: normalised MSE by arm and k."""

    title: str
    note: str  # what differs from this study
    nmse: dict[str, dict[int, float]]


class DrawnRange(Record):
    """The numbers that the levels of an axis were drawn from, under whichever condition. log: evenly in it."""

    low: float
    high: float
    log: bool


class Reference(Record):
    """An SAE of other origin that arms are compared with, as `heldout` has it measured; it has no seeds."""

    package: str
    latents: int
    heldout: Figures


class Null(Record):
    """Figures that a score has without any meaning to find: of raw neurons, for example, or of a random model.

    low, high: the ends of their 95 % intervals, where they have one.
    """

    label: str
    figures: Figures
    low: Figures = {}
    high: Figures = {}


class Extended(Record):
    """Values that the sweep added to an arm's list of a tuned axis, since its best value was the last one there.

    ended: why no more were added.
    """

    arm: dict[str, Scalar]
    added: list[Scalar]
    ended: str


class StudyRecord(Record):
    """The study as it was swept: its axes with their levels, in the order that figures keep.

    `tuning_seeds`: on these alone tuned values were chosen; empty where each seed was chosen on the other `seeds`.
    """

    name: str
    file: str = ""  # of the study, from the workspace's root; see `path`
    question: str
    axes: dict[str, list[Scalar]]
    settings: dict[str, dict[str, dict[str, Any]]] = {}  # axis -> its named levels -> recipe fields
    tuned: list[str]
    baseline: dict[str, Scalar]
    design: str = "factorial"  # its kind: harness/study/designs.py
    ranges: dict[str, DrawnRange] = {}  # of a sampled design, by axis
    designed: str = ""  # what the design came to, in a sentence; empty for a factorial
    seeds: list[int]
    tuning_seeds: list[int] = []
    looks: list[int] = []  # numbers of seeds at which arms are compared; empty for a single time, with all
    indifference: dict[str, float] = {}  # outcome, by its short name -> change that does not matter, in its unit
    pruning: dict[str, Any] | None = None
    cells: int
    heldout_tokens: int  # of final figures
    curve_tokens: int | None = None  # held-out tokens of a point of a curve
    dead_window: int
    source: dict[str, Any]
    recipe: dict[str, Any]
    environment: dict[str, Any]
    published: PublishedFigures | None = None
    references: dict[str, Reference] = {}
    interpretability: dict[str, Any] | None = None  # the settings that latents were sampled and judged with
    nulls: dict[str, Null] = {}  # what their scores are to be compared with
    extended: dict[str, list[Extended]] = {}  # by tuned axis

    @property
    def path(self) -> str:
        """The study's file, to name in commands; where the results do not say, the usual place."""
        return self.file or f"studies/{self.name}.yaml"

    def seeds_of(self, cells: Sequence[CellRecord]) -> list[int]:
        """The seeds at which an arm with these cells is reported: not all, where a look has decided about it."""
        listed = {cell.seed for cell in cells}
        return [seed for seed in self.seeds if seed in listed] if self.looks else self.seeds

    @property
    def curve_heldout_tokens(self) -> int:
        """Held-out tokens of a point of a curve, also for results that do not say."""
        return min(CURVE_TOKENS, self.heldout_tokens) if self.curve_tokens is None else self.curve_tokens

    @property
    def compared(self) -> tuple[str, ...]:
        """The axes that arms are told apart by: all but the tuned ones."""
        return tuple(axis for axis in self.axes if axis not in self.tuned)

    def value(self, levels: Mapping[str, Any], field: str) -> Any:
        """A recipe field at these levels: that of an axis, of a named setting, or else the base recipe's."""
        for axis, level in levels.items():
            if axis == field and self._has(axis, level):
                return level
            if field in (bundle := self.settings.get(axis, {}).get(str(level), {})):
                return bundle[field]
        return self.recipe.get(field)

    def latents_at(self, levels: Mapping[str, Any]) -> int | None:
        """Latents of all sparse layers together, of which dead ones are a share; None where no number is known.

        `latents` is that number, but of each layer with `sparse 3 each`.
        """
        latents, layers = (self.value(levels, name) for name in ("latents", "layers"))
        if not isinstance(latents, int) or not latents:
            return None
        try:
            return sum(apportion(latents, parse_layers(str(layers or "none")).stack))
        except SettingError:  # layers that this version does not know
            return latents

    def dead_window_at(self, levels: Mapping[str, Any]) -> int:
        """Tokens for which a latent must be silent to be called dead."""
        return int(self.value(levels, "dead_window") or self.dead_window)

    def key(self, arm: dict[str, Any]) -> Key:
        """An arm's level on each compared axis."""
        return tuple(arm.get(axis) for axis in self.compared)

    def setting(self, tuned: dict[str, Any]) -> Key:
        """A value for each tuned axis."""
        return tuple(tuned.get(axis) for axis in self.tuned)

    def rank(self, axes: tuple[str, ...] | list[str], key: Key) -> tuple[int, ...]:
        """Sort key: the place of each level in the study file; a level that an arm lacks goes first."""
        levels = zip(axes, key, strict=True)
        return tuple(self.axes[axis].index(level) if self._has(axis, level) else -1 for axis, level in levels)

    def reference(self, axis: str) -> Scalar:
        """The level that the others on this axis are compared with."""
        return self.baseline.get(axis, self.axes[axis][0])

    def label(self, arm: dict[str, Any], without: str | None = None) -> str:
        """An arm in words, as in `dense 2-2, penalty 0.1, adam`; axes that do not vary are left out.

        With leave_one_out as in `full recipe` and `full recipe minus penalty 0.1`.
        """
        if self.design == "leave_one_out" and without is None:
            gone = self.left_out(arm)
            minus = "" if gone is None else f" minus {self.describe({gone: self.baseline[gone]})}"
            return f"full recipe{minus}"
        varying = [a for a in self.compared if len(self.axes[a]) > 1 and a != without]
        return self.describe({axis: arm.get(axis) for axis in varying})

    def left_out(self, arm: Mapping[str, Any]) -> str | None:
        """The axis that is not as in the full recipe; those that depend on it come after it."""
        return next((axis for axis in self.compared if arm.get(axis) != self.baseline.get(axis)), None)

    def labels(self, arms: Sequence[Mapping[str, Level]], without: str | None = None) -> list[str]:
        """Arms in words, different ones in different words."""
        return unambiguous(arms, [self.label({**arm}, without) for arm in arms])

    def describe(self, levels: dict[str, Level]) -> str:
        """Levels in words; one that two axes have, as `none` may be, gets its axis' name in front."""
        words = (
            f"{axis} {level}" if isinstance(level, str) and self._ambiguous(level) else describe({axis: level})
            for axis, level in levels.items()
            if self._has(axis, level)
        )
        return ", ".join(words)

    def _has(self, axis: str, level: Level) -> bool:
        """Whether an arm with this level has the axis at all."""
        return level is not None or None in self.axes[axis]

    def _ambiguous(self, level: str) -> bool:
        return sum(level in levels for levels in self.axes.values()) > 1
