"""How long a study takes on a machine: its cells, its language model, and what has to be made before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.activations.held_out_text import MOST, SHARE
from harness.estimates.machine import Machine
from harness.estimates.sweep import Left, passes, wall
from harness.estimates.times import SETUP, Kind, StepTimes, kind, steps_of
from harness.metrics import METRICS
from harness.sources.model_cost import ModelCost
from harness.study.memory import FLOAT, PREDICTIONS
from harness.study.recipe import Recipe
from harness.study.spec import Study
from harness.study.step_time import FORWARD

# Whether there is a measurement that runs the language model for each cell
IN_PLACE = any(metric.measured_by.startswith("harness.evaluation.loss_recovered:") for metric in METRICS)
TRAINING = 0.3  # of the speed of forward passes that a small model's training reaches (docs/log.md: 108 s)
PREPARE = 10.0  # seconds of `harness prepare` besides passes of the model: imports, text, files


@dataclass(frozen=True)
class SweepTime:
    """seconds: from command to results. model: of it, for passes of the language model that feed the cells."""

    seconds: float
    model: float


@dataclass(frozen=True)
class Estimate:
    """model: what a pass of the source's language model costs; None: there is none, or it is not known.

    model_speed: its FLOP/s on one worker. basis: where the speed of the steps is from. ratios: of cells that are
    done, see `harness.estimates.times.ratios`; those of other kinds are off by the median of these.
    """

    study: Study
    machine: Machine
    step: StepTimes
    model: ModelCost | None
    model_speed: float
    basis: str
    ratios: Mapping[Kind, float] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        """Whether the model runs beside the cells, and not once before them."""
        return self.study.source.stored.settings.get("feed") == "stream"

    def cell(self, recipe: Recipe) -> float:
        """Seconds of training one cell and of measuring it; not of the model that feeds it."""
        steps = steps_of(recipe, self._held_out, self.study.curve_points)
        return self._ratio(recipe) * (SETUP + self.step(recipe) * steps + self._in_place())

    def measuring(self, recipe: Recipe) -> float:
        """Seconds of measuring a cell that is trained."""
        coding = self.step(recipe) * FORWARD * self._held_out / recipe.batch
        return self._ratio(recipe) * (SETUP + coding + self._in_place())

    def _ratio(self, recipe: Recipe) -> float:
        if not self.ratios:
            return 1.0
        return self.ratios.get(kind(recipe), median(self.ratios.values()))

    @property
    def _held_out(self) -> int:
        return self.study.source.stored.tokens["held_out"]

    def sweep(self, cells: Sequence[Left]) -> SweepTime:
        """Of all these cells."""
        seconds = [cell.mean(self.cell) for cell in cells]
        if not (self.streams and self.model):
            return SweepTime(wall(seconds, self.machine.workers), 0.0)
        model = passes(cells) * self.model.flops_per_token / self.model_speed
        each = model / max(1, len(cells))
        both = wall([of_cell + each for of_cell in seconds], self.machine.workers)
        return SweepTime(both, both * model / max(model + sum(seconds), 1e-9))

    def training_model(self) -> float:
        """Seconds of training the language model here; 0 where it is somebody else's."""
        if self.model is None or not self.model.training_flops:
            return 0.0
        return self.model.training_flops / (TRAINING * self.model_speed * self.machine.prepares) + PREPARE

    def making(self) -> float:
        """Seconds of making the activation store, by one pass over the text."""
        stored = self.study.source.stored
        train = stored.tokens["train"]
        if self.streams:
            train = min(train, int(stored.settings.get("window", train)))
        tokens = train + stored.tokens["held_out"]
        flops = 0.0 if self.model is None else self.model.flops_per_token
        return tokens * flops / (self.model_speed * self.machine.prepares) + PREPARE

    def _in_place(self) -> float:
        """Seconds of the whole model's passes over the held-out text with a cell's reconstruction in place.

        Where the model's own predictions there are too many to be kept, they are made again beside each cell's.
        """
        if self.model is None or not IN_PLACE:
            return 0.0
        tokens = min(-(-self._held_out // SHARE), MOST)
        passes = 2 if FLOAT * tokens * self.model.vocabulary > PREDICTIONS else 1
        return passes * tokens * self.model.whole_flops_per_token / self.model_speed
