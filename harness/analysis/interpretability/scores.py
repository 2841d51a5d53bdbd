"""The scores that figures and sentences are about: what each leaves open is answered by the others."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.interpretability.nulls import nulls_of
from harness.analysis.results.records import Null
from harness.analysis.views.view import View
from harness.metrics import Metric

CHANCE = 50.0  # percent, of everything that is balanced accuracy
ANSWERED = ("detection", "detection_weighted", "detection_hard")
# What figures say of them beside their names: whole definitions would be longer than the figure
BRIEFLY = {
    "detection": "over a random sample of latents, dead and unscored ones at chance",
    "detection_alive": "over those of the sample that are alive and scored",
    "detection_weighted": "over the alive and scored ones, weighted by firing rate",
    "detection_hard": "over the sample, against silent windows that have the latent's peak token, are near its "
    "windows in meaning, or activate its nearest neighbour",
    "fuzzing": "how well a judge tells a latent's tokens from others, over the sample (chance: 50 %)",
    "intruder": "how often one silent window is found among four others, over the sample (chance: 20 %)",
    "direction_cosine": "mean cosine between what a latent changes in the reconstruction at two tokens (1: one "
    "direction), over alive latents",
    "found_again": "share of all latents that another seed has, too (their activations correlate above 0.7)",
}
JUDGE = "detection scores: balanced accuracy of a judge who says from an explanation where a latent fires"


def of_latents(view: View, *names: str) -> list[Metric]:
    """Those of the named metrics that the study has figures of, in this order."""
    known = {metric.name: metric for metric in view.metrics}
    return [known[name] for name in names if name in known]


def effects_table(outcome: Metric) -> str:
    """The table of the page that has the changes of this outcome."""
    return "interpretability_effects" if outcome.group == "interpretability" else "effects"


def nulls(view: View) -> dict[str, Null]:
    """What the scores are compared with."""
    return nulls_of(view)


def latents_note(view: View) -> str:
    """How many latents of how much text scores are of."""
    asked = view.study.interpretability or {}
    tokens = min(asked.get("tokens", view.study.heldout_tokens), view.study.heldout_tokens)
    sample = (
        f"{asked['latents']:,} random latents of each SAE" if "latents" in asked else "a random sample of latents"
    )
    return f"{sample}, read on {tokens:,} held-out tokens"


def brief_note(metrics: Sequence[Metric]) -> str:
    """What the scores are, for a figure's note."""
    known = [f"{metric.label}: {BRIEFLY[metric.name]}" for metric in metrics if metric.name in BRIEFLY]
    judged = [f"\n{JUDGE}"] if any(metric.name.startswith("detection") for metric in metrics) else []
    return "".join([*judged, *([f"\n{'; '.join(known)}"] if known else [])])
