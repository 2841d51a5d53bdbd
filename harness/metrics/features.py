"""Which of the known features of a synthetic source the latents have found."""

from __future__ import annotations

from harness.metrics.metric import Metric

MEASURED_BY = "harness.evaluation.known_features:measure"


def _feature(name: str, label: str, definition: str) -> Metric:
    return Metric(
        name,
        label,
        axis=f"{label}, %",
        definition=definition,
        scale=100,
        unit=" %",
        digits=1,
        change="points",
        better="higher",
        bounds=(0, 1),
        optional="where the source knows its features",
        measured_by=MEASURED_BY,
        group="features",
    )


MCC = _feature(
    "mcc", "MCC", "mean over features of |correlation| with the matched latent; one to one, 0 where unmatched"
)
FEATURES: tuple[Metric, ...] = (
    MCC,
    _feature("f1", "F1", "mean over features of the F1 of “the matched latent fires” for “the feature fires”"),
    _feature(
        "uniqueness",
        "uniqueness",
        "distinct features that firing latents correlate best with / the smaller of the counts of both",
    ),
)
