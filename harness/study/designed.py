"""What a study's design came to, in a sentence for plan and report."""

from __future__ import annotations

from harness.study.grid import fraction
from harness.study.labels import describe
from harness.study.spec import Study

SAMPLERS = {"qmc": "Optuna's quasi-random sampler (Sobol, scrambled)", "random": "Optuna's random sampler"}


def designed(study: Study) -> str:
    """One sentence; an empty text for a factorial, of which there is nothing to say."""
    kind = study.design.kind
    if kind == "one_factor":
        return f"One factor at a time: each arm has at most one axis off the baseline ({_baseline(study)})."
    if kind == "leave_one_out":
        return (
            f"Leave one out: the full recipe ({_baseline(study)}), and this recipe less one component at a time."
        )
    if kind == "fraction":
        return _fraction(study)
    return _sampled(study) if kind == "sampled" else ""


def _baseline(study: Study) -> str:
    return describe(study.baseline())


def _fraction(study: Study) -> str:
    total, part = fraction(study)
    if max(part.levels_off, part.pairs_off) < 1e-9:
        balance = "levels and pairs of levels are in the same proportions as in all arms"
    else:
        balance = (
            f"compared with the proportions in all arms, the count of a level is off by at most "
            f"{part.levels_off:.2g}, that of a pair of levels by {part.pairs_off:.2g}"
        )
    return f"Fraction: {len(part.chosen)} of {total} arms; {balance}; D-efficiency {100 * part.efficiency:.0f} %."


def _sampled(study: Study) -> str:
    design = study.design
    ranges = [
        f"{axis.name} {found}" + ("" if axis.parent is None else f" if {describe({axis.parent: level})}")
        for axis in study.axes
        for level, found in axis.ranges.items()
    ]
    of = f" from {', '.join(ranges)}" if ranges else ""
    return f"Sampled: {design.arms} arms, drawn by {SAMPLERS[design.sampler]} with seed {design.seed}{of}."
