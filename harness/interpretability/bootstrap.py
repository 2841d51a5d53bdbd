"""Intervals of one SAE's figures over its latents: for an SAE that has no seeds.

Shape letters: S sampled latents, A answers.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.evaluation.measurements import Figures
from harness.interpretability.examples import ACTIVATING
from harness.interpretability.figures import figures_of

RESAMPLES = 1000
TAILS = (0.025, 0.975)
# Figures of `harness.metrics` that do not depend on the latents in the sample as a mean over them does
NOT_OF_LATENTS = ("layers", "invalid_answers")


def latent_intervals(latents: pa.Table, answers: pa.Table, seed: int = 0) -> tuple[Figures, Figures]:
    """The lower and upper ends of the 95 % interval of each of `figures_of`.

    Percentiles over samples of S latents, drawn with replacement. A latent is drawn with all of its answers: these
    are a cluster (Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8). The same for the
    same tables.
    """
    random = np.random.default_rng([seed, 3])
    latents = latents.select([field.name for field in latents.schema if not _is_text_or_list(field.type)])
    answers = _strength(answers)
    of_latent = _places(latents, answers)
    found: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        drawn = random.integers(len(latents), size=len(latents))
        figures = figures_of(latents.take(drawn), _drawn(answers, of_latent, drawn))
        for name, value in figures.items():  # in their order: that of a set would differ from run to run
            if name not in NOT_OF_LATENTS:
                found.setdefault(name, []).append(value)
    low, high = ({name: float(np.quantile(values, tail)) for name, values in found.items()} for tail in TAILS)
    return low, high


def _is_text_or_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_list(kind))


def _strength(answers: pa.Table) -> pa.Table:
    """Those answers that `figures_of` reads, and not all of them: whether activating windows were recognised."""
    score, kind, permuted = (
        answers[name].to_numpy(zero_copy_only=False) for name in ("score", "kind", "permuted")
    )
    return answers.filter(pa.array((score == "detection") & (kind == ACTIVATING) & ~permuted.astype(bool)))


def _places(latents: pa.Table, answers: pa.Table) -> list[NDArray[np.int64]]:
    """The answers of each sampled latent."""
    of = answers["latent"].to_numpy()
    order = np.argsort(of, kind="stable")
    ids = latents["latent"].to_numpy()
    starts, ends = (np.searchsorted(of[order], ids, side=side) for side in ("left", "right"))
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def _drawn(answers: pa.Table, of_latent: list[NDArray[np.int64]], drawn: NDArray[np.int64]) -> pa.Table:
    """The answers of the latents that were drawn; one that was drawn twice is two latents."""
    parts = [of_latent[place] for place in drawn]
    numbers = np.repeat(np.arange(len(drawn)), [len(part) for part in parts])
    taken = answers.take(np.concatenate(parts))
    return taken.set_column(taken.column_names.index("latent"), "latent", pa.array(numbers))
