"""What is found about a study's sampled latents (`interpretability`): how well they are explained."""

from __future__ import annotations

from typing import Any

from harness.metrics.metric import Metric

MEASURED_BY = "harness.interpretability.figures:figures_of"
POINTS: dict[str, Any] = {"change": "points", "better": "higher"}
NUMBER: dict[str, Any] = {"scale": 1, "unit": "", "digits": 3}
_OVER_SAMPLE = "over a random sample of the latents, in which dead ones and unscored ones count as chance (50 %)"


def of_latents(name: str, label: str, definition: str, **others: Any) -> Metric:
    """Of a study's sampled latents: a share in percent, unless `others` say otherwise."""
    known: dict[str, Any] = {"axis": f"{label}, %", "scale": 100, "unit": " %", "digits": 1, "bounds": (0, 1)}
    known |= {"optional": "where the study asks for interpretability", "measured_by": MEASURED_BY}
    known |= {"measured_on": "latents", "group": "interpretability"}
    return Metric(name, label, definition=definition, **(known | others))


SCORES: tuple[Metric, ...] = (
    of_latents(
        "detection",
        "detection",
        "balanced accuracy of a judge who says, from a latent's explanation, in which windows of the text it "
        "fires: the mean of its recall of windows where it does and of random ones where it does not; "
        f"{_OVER_SAMPLE}",
        places=("final", "layer"),
        **POINTS,
    ),
    of_latents(
        "detection_failed",
        "detection, dead as failed",
        "detection over the same sample, where dead and unscored latents count 0",
        better="higher",
    ),
    of_latents(
        "detection_alive",
        "detection of alive latents",
        "detection over those latents of the sample that are alive and could be scored",
        **POINTS,
    ),
    of_latents(
        "detection_weighted",
        "detection weighted by firing rate",
        "mean detection of those latents, each weighted by its firing rate: what the judge makes of a firing",
        **POINTS,
    ),
    of_latents(
        "detection_hard",
        "detection with hard negatives",
        "detection where the windows in which the latent is silent are hard ones: with its peak token, near its "
        "windows in meaning, or activating its nearest neighbour; the mean over the three kinds, "
        f"{_OVER_SAMPLE}",
        **POINTS,
    ),
    of_latents(
        "detection_hard_alive",
        "detection of alive latents with hard negatives",
        "the same over alive latents that could be scored",
        better="higher",
    ),
    of_latents(
        "detection_same_token",
        "detection, same token",
        "detection where the other windows have the latent's peak token, and it is silent in them; over the "
        "sample",
        better="higher",
    ),
    of_latents(
        "detection_similar",
        "detection, similar text",
        "detection where the other windows are the nearest in meaning, by the language model's own activations, "
        "in which the latent is silent; over the sample",
        better="higher",
    ),
    of_latents(
        "detection_neighbour",
        "detection, neighbour",
        "detection where the other windows are those in which the latent is silent and its nearest neighbour by "
        "co-firing fires; over the sample",
        better="higher",
    ),
    of_latents(
        "detection_permuted",
        "detection, explanations permuted",
        "detection of alive latents with the explanation of another latent: what the judge accepts from anybody; "
        "about 50 % if it is sound",
    ),
    of_latents(
        "detection_strong",
        "recall of strong activations",
        "share of the windows with the strongest activations of a latent that the judge finds; mean over alive "
        "latents",
        better="higher",
    ),
    of_latents(
        "detection_weak",
        "recall of weak activations",
        "share of the windows with the weakest activations of a latent that the judge finds; mean over alive "
        "latents",
        better="higher",
    ),
    of_latents(
        "fuzzing",
        "fuzzing",
        "balanced accuracy of a judge who says, from the explanation, whether the highlighted tokens of a window "
        f"are those that the latent fires on; {_OVER_SAMPLE}",
        **POINTS,
    ),
    of_latents(
        "fuzzing_alive",
        "fuzzing of alive latents",
        "fuzzing over alive latents that could be scored",
        better="higher",
    ),
    of_latents(
        "intruder",
        "intruder",
        "how often a judge without an explanation finds, among four windows of the latent, the one in which it is "
        "silent; over the sample, in which dead and unscored latents count as chance (20 %)",
        **POINTS,
    ),
    of_latents(
        "intruder_alive",
        "intruder of alive latents",
        "the same over alive latents that could be scored",
        better="higher",
    ),
)
