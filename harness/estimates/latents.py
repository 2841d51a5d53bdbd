"""How many seeds, latents and calls of a judge it takes to tell two arms' scores apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.sentences.text import plural
from harness.inference.clusters import ClusterVariances, half_width, latents_needed
from harness.study.arms import ArmSpec
from harness.study.judges import Endpoint
from harness.study.spec import Study

if TYPE_CHECKING:
    from harness.study.interpretability import Interpretability

POINTS = 2.0  # of detection, to both sides
MOST_SEEDS = 100
# Of detection in points², rounded, in studies/depth.yaml with the built-in judge
USUAL = ClusterVariances(seed=0.0, latent=94.0, draw=17.0)


def precision(study: Study, asked: Interpretability, arms: Sequence[ArmSpec], results: Path) -> str:
    """A line of a plan: what the study's seeds and latents show of detection, and how many it takes for ±2 points.

    With the variances of its results, where it has any, or else those of the depth study.
    """
    known, whence = _variances(results)
    seeds, most = len(study.looks[0]), min(recipe.latents for arm in arms for recipe in arm.recipes)
    latents = min(asked.latents, most)
    half = half_width(known, seeds, latents, asked.draws, asked.judge.repetitions)
    shown = f"differences of detection to ±{half:.1f} points" if seeds > 1 else "no intervals"
    line = f"interpretability, {plural(seeds, 'seed')} of {latents:,} latents: {shown}"
    if half > POINTS:
        ways = [
            f"{s} seeds of {n:,} latents{_calls(asked, len(arms) * s, n)}" for s, n in _enough(asked, known, most)
        ]
        line += f"; for ±{POINTS:g}: {', or '.join(ways) or f'over {MOST_SEEDS} seeds'}"
    return f"{line} ({whence})"


def _variances(results: Path) -> tuple[ClusterVariances, str]:
    from harness.analysis.interpretability.variance import COMPONENTS
    from harness.analysis.results.files import read_table

    if (results / "tables" / "interpretability_variance.parquet").is_file():
        rows = read_table(results, "interpretability_variance").to_dicts()
        own = {row["component"]: row["sd"] for row in rows if row["outcome"] == "detection"}
        if "seed" in own and "latent" in own:
            return ClusterVariances(*(own.get(name, 0.0) ** 2 for name in COMPONENTS)), "by its results"
    return USUAL, "going by the depth study"


def _enough(asked: Interpretability, known: ClusterVariances, most: int) -> Iterator[tuple[int, int]]:
    """Seeds and latents: the fewest seeds with at most `most` latents, then with no more than are asked for."""
    found = 0
    for seeds in range(2, MOST_SEEDS + 1):
        latents = latents_needed(POINTS, known, seeds, asked.draws, asked.judge.repetitions)
        if latents is not None and latents <= (asked.latents if found else most):
            yield seeds, latents
            found += 1
            if latents <= asked.latents:
                return


def _calls(asked: Interpretability, cells: int, latents: int) -> str:
    """As in ` (12,000 calls of the judge)`; empty for the judge that is built in."""
    if not isinstance(asked.judge, Endpoint):
        return ""
    from harness.interpretability.endpoint.preview import at_most

    each = at_most(asked.model_copy(update={"latents": latents}), asked.judge, {})
    return f" (at most {cells * each.calls:,.0f} calls)"
