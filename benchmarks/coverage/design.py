"""A simulated study: what is true of its arms, and what is seen of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LATENTS = 1024
FVU, SPREAD = 0.1, 0.01  # at the first arm's best setting; standard deviation of log FVU between seeds
Noise = Literal["normal", "skewed"]


@dataclass(frozen=True)
class ArmTruth:
    """What is true of an arm at its best setting.

    effect: of log FVU, in standard deviations of a seed. spread: its own standard deviation, as a multiple.
    dead: share of dead latents. seeds: how many it has, if not as many as the study.
    """

    levels: dict[str, Any]
    effect: float = 0.0
    spread: float = 1.0
    dead: float = 0.1
    seeds: int | None = None


@dataclass(frozen=True)
class Scenario:
    """A kind of study. The first level of each axis is the reference.

    gaps: how much worse each tuned setting is than the best in log FVU, in standard deviations; dead_steps: by how
    much the logit of the dead share is higher there. Without gaps nothing is tuned.
    tuning_seeds: seeds that choose the setting; without any, seeds are cross-fitted.
    dispersion: variance of dead counts as a multiple of the binomial one. looks: seeds at each planned look.
    indifference: the study's margins. outcome, kind: the rows of the effects table that are judged.
    """

    name: str
    arms: tuple[ArmTruth, ...]
    seeds: int
    gaps: tuple[float, ...] = ()
    dead_steps: tuple[float, ...] = ()
    tuning_seeds: int = 0
    dispersion: float = 1.0
    noise: Noise = "normal"
    looks: tuple[int, ...] = ()
    indifference: tuple[tuple[str, float], ...] = ()
    outcome: Literal["fvu", "dead"] = "fvu"
    kind: Literal["pair", "marginal"] = "pair"

    @property
    def settings(self) -> int:
        return max(1, len(self.gaps))

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Each compared axis with its levels, in order."""
        names = self.arms[0].levels
        return {name: list(dict.fromkeys(arm.levels[name] for arm in self.arms)) for name in names}

    def score_means(self, arm: ArmTruth) -> Floats:
        """[settings] mean log FVU."""
        gaps = np.array(self.gaps or (0.0,))
        means: Floats = np.log(FVU) + SPREAD * (arm.effect + arm.spread * gaps)
        return means

    def dead_logits(self, arm: ArmTruth) -> Floats:
        """[settings] logit of the dead share."""
        steps = np.array(self.dead_steps or (0.0,) * self.settings)
        logits: Floats = np.log(arm.dead / (1 - arm.dead)) + steps
        return logits

    def draw(self, arm: ArmTruth, studies: int, seeds: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Log FVU and dead shares, each [studies, settings, seeds]."""
        shape = (studies, self.settings, seeds)
        noise = rng.standard_normal(shape) if self.noise == "normal" else (rng.chisquare(3, shape) - 3) / 6**0.5
        scores = self.score_means(arm)[:, None] + SPREAD * arm.spread * noise
        logits = np.broadcast_to(self.dead_logits(arm)[:, None], shape)
        shares = 1 / (1 + np.exp(-logits))
        # beta-binomial: the variance of the counts is the binomial one times the dispersion
        if self.dispersion > 1:
            size = (LATENTS - self.dispersion) / (self.dispersion - 1)
            shares = rng.beta(shares * size, (1 - shares) * size)
        return scores, rng.binomial(LATENTS, shares) / LATENTS


@dataclass(frozen=True)
class Truth:
    """What the figures of each arm estimate: [arms] expected log FVU and dead share of a seed as it is reported.

    With tuned settings: of "choose the setting on that many seeds, then train one more there".
    """

    log_fvu: Floats
    dead: Floats


def truth(scenario: Scenario, studies: int = 100_000) -> Truth:
    """Exact without tuned settings, otherwise by choosing `studies` times."""
    fvu, dead = [], []
    rng = np.random.default_rng(7)
    cached: dict[tuple[float, float], tuple[float, float]] = {}
    for arm in scenario.arms:
        key = (arm.spread, arm.dead)
        if key not in cached:
            cached[key] = _expected(scenario, arm, studies, rng)
        above, share = cached[key]
        fvu.append(np.log(FVU) + SPREAD * arm.effect + above)
        dead.append(share)
    return Truth(np.array(fvu), np.array(dead))


def _expected(scenario: Scenario, arm: ArmTruth, studies: int, rng: np.random.Generator) -> tuple[float, float]:
    """Expected log FVU above that of the best setting, and expected dead share."""
    shares = 1 / (1 + np.exp(-scenario.dead_logits(arm)))
    if scenario.settings == 1:
        return 0.0, float(shares[0])
    above = scenario.score_means(arm) - scenario.score_means(arm)[0]
    choosing = scenario.tuning_seeds or (arm.seeds or scenario.seeds) - 1
    means = above + SPREAD * arm.spread / choosing**0.5 * rng.standard_normal((studies, scenario.settings))
    chosen = means.argmin(axis=1)
    return float(above[chosen].mean()), float(shares[chosen].mean())


def levels(count: int) -> list[dict[str, Any]]:
    """Levels of arms of a study with one axis."""
    return [{"arm": f"arm {number}"} for number in range(count)]


def arms(
    count: int, effects: Sequence[float] = (), spreads: Sequence[float] = (), dead: Sequence[float] = ()
) -> tuple[ArmTruth, ...]:
    """Arms of a study with one axis; what is not given is equal in all."""
    return tuple(
        ArmTruth(level, effects[i] if effects else 0.0, spreads[i] if spreads else 1.0, dead[i] if dead else 0.1)
        for i, level in enumerate(levels(count))
    )
