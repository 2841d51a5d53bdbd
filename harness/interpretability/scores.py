"""Scores of latents, from the answers of a judge.

Balanced accuracy: (share right of what the latent fires on + share right of negatives of one kind) / 2.
Shape letters: S sampled latents, G draws times repetitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.interpretability.examples import ACTIVATING, NEGATIVES
from harness.interpretability.questions import RANDOM, RIGHT_TOKENS, WRONG_TOKENS
from harness.interpretability.tables import LATENT_SCORES

HARD = tuple(kind for kind in NEGATIVES if kind != RANDOM)
# A latent that the judge can tell from random windows, but hardly from windows with the same tokens
KNOWN, UNKNOWN = 0.7, 0.6

GROUP = ("latent", "score", "kind", "quantile", "draw", "repetition")

Numbers = NDArray[np.float64]


def latent_scores(answers: pa.Table) -> pa.Table:
    """The share of answers that are right (`value`) by latent, score, kind, quantile, draw and repetition.

    Without those to permuted explanations.
    """
    own = answers.filter(pc.invert(answers["permuted"]))
    groups = own.group_by(list(GROUP), use_threads=False).aggregate([("right", "mean"), ("right", "count")])
    columns = [groups[name] for name in (*GROUP, "right_mean", "right_count")]
    cast = [column.cast(field.type) for column, field in zip(columns, LATENT_SCORES, strict=True)]
    return pa.table(cast, schema=LATENT_SCORES).sort_by([(name, "ascending") for name in GROUP])


def scores_of_latents(answers: pa.Table, sample: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Columns of `latents.parquet` for an ascending sample: shares [S], NaN where nothing was asked.

    Means over draws and repetitions. detection_hard: over the kinds of hard negatives that a latent has.
    token_only: also where it has no negatives with the same token, since it fires in all windows with its tokens.
    """
    shares = _Shares(answers, sample)
    active = shares.of("detection", ACTIVATING)
    detection = {kind: _mean((active + shares.of("detection", kind)) / 2) for kind in NEGATIVES}
    permuted = (
        shares.of("detection", ACTIVATING, permuted=True) + shares.of("detection", RANDOM, permuted=True)
    ) / 2
    fuzzing = (shares.of("fuzzing", RIGHT_TOKENS) + shares.of("fuzzing", WRONG_TOKENS)) / 2
    same_token = detection["same_token"]
    return {
        "detection": detection[RANDOM],
        **{f"detection_{kind}": detection[kind] for kind in HARD},
        "detection_hard": _mean(np.stack([detection[kind] for kind in HARD], 1)),
        "detection_permuted": _mean(permuted),
        "fuzzing": _mean(fuzzing),
        "intruder": _mean(shares.of("intruder", RANDOM)),
        "token_only": (detection[RANDOM] >= KNOWN) & (np.isnan(same_token) | (same_token < UNKNOWN)),
    }


class _Shares:
    """Shares of right answers by latent, draw and repetition."""

    def __init__(self, answers: pa.Table, sample: NDArray[np.int64]) -> None:
        column: Mapping[str, NDArray[Any]] = {
            name: answers[name].to_numpy()
            for name in ("latent", "draw", "repetition", "score", "kind", "permuted")
        }
        self._column = column
        self._right = answers["right"].to_numpy().astype(float)
        repetitions = int(column["repetition"].max(initial=0)) + 1
        self._shape = len(sample), (int(column["draw"].max(initial=0)) + 1) * repetitions
        time = column["draw"].astype(int) * repetitions + column["repetition"]
        self._group = np.searchsorted(sample, column["latent"]) * self._shape[1] + time

    def of(self, score: str, kind: str, permuted: bool = False) -> Numbers:
        """[S, G], NaN where nothing was asked."""
        column = self._column
        here = (column["score"] == score) & (column["kind"] == kind) & (column["permuted"] == permuted)
        size = int(np.prod(self._shape))
        asked = np.bincount(self._group[here], minlength=size)
        right = np.bincount(self._group[here], self._right[here], minlength=size)
        found: Numbers = np.divide(right, asked, out=np.full(size, np.nan), where=asked > 0)
        return found.reshape(self._shape)


def _mean(values: Numbers) -> Numbers:
    """Over the last dimension, of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0).sum(-1)
    found: Numbers = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return found
