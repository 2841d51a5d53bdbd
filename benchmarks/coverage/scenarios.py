"""The studies that are simulated, a row of the table each."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.coverage.design import ArmTruth, Scenario, arms

SPREADS = (0.47, 0.73, 1.0, 1.37, 2.13)  # of five arms: quantiles of a log-normal distribution with sigma 0.6
MILD = (0.68, 0.85, 1.0, 1.17, 1.46)  # with sigma 0.3
SEEDS = (2, 3, 5, 10)
SOME = (0.0, 0.0, 1.0, 2.0, 4.0)  # effects in standard deviations of a seed


def scenarios() -> Iterator[Scenario]:
    yield from _plain()
    yield from _tuned()
    yield from _looks()
    yield from _dead()
    yield from _grids()


def _plain() -> Iterator[Scenario]:
    for n in SEEDS:
        yield Scenario("five equal arms", arms(5), n)
    for n in SEEDS:
        yield Scenario("two of five arms equal, others 1, 2 and 4 sd off", arms(5, SOME), n)
    for n in SEEDS:
        yield Scenario("equal arms, spreads 0.7 to 1.5 sd", arms(5, spreads=MILD), n)
    for n in SEEDS:
        yield Scenario("equal arms, spreads 0.5 to 2.1 sd", arms(5, spreads=SPREADS), n)
    for n in SEEDS:
        yield Scenario("equal arms, skewed (chi-square, 3 df)", arms(5), n, noise="skewed")
    for count in (2, 20):
        yield Scenario(f"{count} equal arms", arms(count), 3)
    baseline, *others = arms(5)
    more = (ArmTruth(baseline.levels, seeds=8), *(ArmTruth(arm.levels, seeds=3) for arm in others))
    yield Scenario("reference with 8 seeds, four arms with 3", more, 8)
    yield Scenario("an effect of just the margin, 2 %", arms(2, (0.0, 1.98026)), 5, indifference=(("fvu", 2.0),))


def _tuned() -> Iterator[Scenario]:
    for n in SEEDS:
        yield Scenario("cross-fitted, three settings equal", arms(5), n, gaps=(0.0, 0.0, 0.0))
    for n in SEEDS:
        yield Scenario("cross-fitted, two settings 1 sd worse", arms(5), n, gaps=(0.0, 1.0, 1.0))
    for n in SEEDS:
        yield Scenario("cross-fitted, two settings 5 sd worse", arms(5), n, gaps=(0.0, 5.0, 5.0))
    yield Scenario("cross-fitted, ten settings equal", arms(5), 5, gaps=(0.0,) * 10)
    for n in (3, 5, 10):
        steps = (0.0, 1.0, -1.0)
        yield Scenario(
            "cross-fitted, three settings of equal FVU, 4 to 23 % dead",
            arms(5),
            n,
            gaps=(0.0, 0.0, 0.0),
            dead_steps=steps,
            outcome="dead",
        )
    for tuning, n in ((1, 3), (1, 10), (2, 3), (3, 3), (3, 5), (5, 5), (5, 10), (10, 10)):
        name = f"{tuning} tuning seed{'s' * (tuning > 1)}, two settings 1 sd worse"
        yield Scenario(name, arms(5), n, gaps=(0.0, 1.0, 1.0), tuning_seeds=tuning)
    yield Scenario("3 tuning seeds, two settings 5 sd worse", arms(5), 3, gaps=(0.0, 5.0, 5.0), tuning_seeds=3)


def _looks() -> Iterator[Scenario]:
    for looks in ((3, 5, 8), (2, 4, 6)):
        said = ", ".join(map(str, looks))
        yield Scenario(f"looks at {said}; equal arms", arms(5), looks[-1], looks=looks)
        yield Scenario(f"looks at {said}; two of five equal", arms(5, SOME), looks[-1], looks=looks)
        yield Scenario(f"looks at {said}; spreads 0.5 to 2.1", arms(5, spreads=SPREADS), looks[-1], looks=looks)


def _dead() -> Iterator[Scenario]:
    for share, said in ((0.001, "0.1 %"), (0.01, "1 %"), (0.3, "30 %"), (0.99, "99 %")):
        for n in (3, 5):
            yield Scenario(f"five equal arms, {said} dead", arms(5, dead=(share,) * 5), n, outcome="dead")
    for dispersion in (1.0, 4.0):
        for n in (2, 3, 5, 10):
            yield Scenario(
                f"0.1, 1, 1, 10 and 30 % dead, dispersion {dispersion:g}",
                arms(5, dead=(0.01, 0.01, 0.001, 0.1, 0.3)),
                n,
                dispersion=dispersion,
                outcome="dead",
            )


def _grids() -> Iterator[Scenario]:
    for n in (3, 5):
        yield Scenario("conditional grid of depth, equal arms", _depth(None), n)
        yield Scenario("conditional grid of depth, effects that interact", _depth(2.0), n)
        yield Scenario("conditional grid of depth, marginal rows", _depth(2.0), n, kind="marginal")


def _depth(step: float | None) -> tuple[ArmTruth, ...]:
    """The arms of studies/depth.yaml: the penalty where there are hidden layers, Muon only without any."""
    found: list[tuple[str, float, str]] = [("none", 0, "adam"), ("none", 0, "muon")]
    for layers in ("dense 2-2", "dense 1-2-2-1", "sparse 3"):
        found += [(layers, 0, "adam"), (layers, 0.1, "adam")]
    found.append(("dense_encoder 2", 0, "adam"))
    effects = [0.0] * len(found) if step is None else [step * (i % 4) for i in range(len(found))]
    return tuple(
        ArmTruth({"layers": layers, "penalty": penalty, "optimizer": optimizer}, effect)
        for (layers, penalty, optimizer), effect in zip(found, effects, strict=True)
    )
