"""What speaks against relying on scores of latents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.analysis.effects.verdicts import UNDECIDED
from harness.analysis.interpretability.scores import ANSWERED, CHANCE, of_latents
from harness.analysis.interpretability.variance import MEAN_AT_SEEDS
from harness.analysis.sentences.certainty import WIDER
from harness.analysis.sentences.text import capitalized, listed, number, plural, quoted
from harness.analysis.views.view import Row, View
from harness.inference.constants import ALPHA, t_quantile

ACCEPTED = 0.5  # share of what detection has above chance that another latent's explanation has, too
MANY_INVALID, MANY_UNSCORED = 0.05, 0.2  # shares
MOST_NAMED = 4


def warnings(view: View) -> Iterator[str]:
    """The judge first, then what the sample of latents cannot show."""
    if view.interpretability:
        yield from _accepted(view)
        yield from _invalid(view)
        yield from _unscored(view)
        yield from _too_few_latents(view)
        yield from _at_chosen_settings(view)


def _accepted(view: View) -> Iterator[str]:
    """A judge who is as right with the explanation of another latent has not read it."""
    both = of_latents(view, "detection_permuted", "detection_alive")
    if len(both) < 2:
        return
    permuted, own = (metric.name for metric in both)
    known = [arm for arm in view.arms if arm[permuted] is not None and arm[own] is not None]
    chance = CHANCE / 100
    near = [arm for arm in known if arm[permuted] - chance > ACCEPTED * max(0.0, arm[own] - chance)]
    if near:
        worst = max(near, key=lambda arm: float(arm[permuted]))
        yield (
            f"The judge accepts explanations of other latents: with them, its detection of {_named(near)} is more "
            f"than half as far above chance as with their own (up to {number(100 * worst[permuted], 1)} %, "
            f"against {number(100 * worst[own], 1)} %)."
        )


def _invalid(view: View) -> Iterator[str]:
    arms, most = _above(view, "invalid_answers", MANY_INVALID)
    if arms:
        yield (
            f"Up to {most} % of the judge's answers are not valid and count as wrong: scores of "
            f"{_named(arms)} are lower for it."
        )


def _unscored(view: View) -> Iterator[str]:
    arms, most = _above(view, "latents_unscored", MANY_UNSCORED)
    if arms:
        yield (
            f"Up to {most} % of the sampled latents of {_named(arms)} fire in too few windows to "
            f"be scored and count as chance: more text ({_key_of_more_text(view)}) would score them."
        )


def _key_of_more_text(view: View) -> str:
    """What to raise: the study may read less than there is."""
    asked = view.study.interpretability or {}
    if asked.get("tokens", 0) < view.study.heldout_tokens:
        return "`interpretability: {tokens: …}`"
    return "`held_out_tokens` of the source"


def _above(view: View, name: str, share: float) -> tuple[list[Row], str]:
    """The arms in which this share is larger than so much, and the largest one, in percent."""
    shares = [float(arm.get(name) or 0.0) for arm in view.arms]
    arms = [arm for arm, own in zip(view.arms, shares, strict=True) if own > share]
    return arms, number(100 * max(shares, default=0.0), 1)


def _too_few_latents(view: View) -> Iterator[str]:
    """Undecided comparisons that are within what so many latents show at best, whatever the seeds."""
    rows = view.tables["interpretability_variance"]
    pairs = [row for row in view.tables["effects"] if row["kind"] == "pair"]
    for metric in of_latents(view, *ANSWERED):
        own = next((r for r in rows if r["outcome"] == metric.name and r["component"] == MEAN_AT_SEEDS), None)
        if own is None:
            continue
        half = t_quantile(ALPHA / 2, math.inf) * math.sqrt(2) * own["error"]
        undecided = [row for row in pairs if row[metric.verdict] == UNDECIDED and row[metric.effect] is not None]
        within = [row for row in undecided if abs(row[metric.effect]) < half]
        if within:
            verb = "is" if len(within) == 1 else "are"
            yield (
                f"{capitalized(metric.label)}: that latents are a sample makes differences of arms uncertain "
                f"by ±{number(half, 1)} points; {len(within)} of {plural(len(pairs), 'comparison')} {verb} "
                "undecided and smaller than that. `harness plan` says how many latents and seeds would show them."
            )


def _at_chosen_settings(view: View) -> Iterator[str]:
    """Nothing is known of the latents at settings that were not chosen."""
    if any((arm["choice_factor"] or 1.0) >= WIDER for arm in view.arms):
        yield (
            f"Intervals of what latents mean are at the chosen {listed(view.study.tuned)}: that the seeds do not "
            "settle this choice is not in them, since only SAEs of reported cells are kept."
        )


def _named(arms: Sequence[Row]) -> str:
    names = [str(arm["arm"]) for arm in arms]
    more = f" (and {plural(len(names) - MOST_NAMED, 'other arm')})" if len(names) > MOST_NAMED else ""
    return quoted(names[:MOST_NAMED]) + more
