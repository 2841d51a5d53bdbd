"""Learning curves: at which steps there is a point, and what is measured there.

Points change nothing that is trained, and are no part of a cell's identity.
"""

from __future__ import annotations

from harness.study.recipe import Recipe

POINTS = 40  # of a curve, if a study does not say
DENSER = 10  # times as many points per step at the start as at the end
EVERY = 4  # points for one with held-out figures, which take nearly all of the time that points take
SHARE, FEWEST, MOST = 800, 256, 2048  # training tokens for each held-out token of these, and their bounds

Point = dict[str, float | int]


def logging_steps(steps: int, points: int) -> list[int]:
    """After which of a cell's steps there is a point, in ascending order; the last step is one.

    All of them where there are no more steps than points. A function of both numbers alone, so that cells that are
    trained on as many tokens in the same batches have the same points.
    """
    if steps <= points:
        return list(range(1, steps + 1))
    found = [0]
    for number in range(1, points + 1):
        share = (DENSER ** (number / points) - 1) / (DENSER - 1)
        found.append(max(found[-1] + 1, round(steps * share)))
    return found[1:]


def held_out_steps(steps: int, points: int) -> set[int]:
    """Those of the `logging_steps` with held-out figures, too: every fourth, counted back from the last one."""
    return {*logging_steps(steps, points)[::-EVERY]}


def curve_tokens(recipe: Recipe) -> int:
    """Held-out tokens of the held-out figures of a point, whatever the number of points.

    A point takes the same share of the time of any training but a short or a very long one.
    """
    return min(MOST, max(FEWEST, recipe.tokens // SHARE))
