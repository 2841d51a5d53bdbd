"""What the points of learning curves say of the batches that were trained on since the last one."""

from __future__ import annotations

from dataclasses import replace

from harness.metrics.metric import Metric
from harness.metrics.reconstruction import FVU
from harness.metrics.sparsity import DEAD, L0, WINDOWS

MEASURED_BY = "harness.training.cell:Cell.drain"

SILENT = replace(
    DEAD,
    label="latents that are silent in training",
    axis="silent for the last\n{dead_window} training\ntokens, %",
    definition="share of the latents that did not fire on the last {dead_window} training tokens, while the "
    "weights changed",
    optional="where as many tokens were trained on",
    measured_by=MEASURED_BY,
    places=("train",),
)
DIED = replace(
    SILENT,
    name="died_fraction",
    label="latents that died since the last point",
    axis="died since the last point, %",
    definition="share of all latents that did not fire on the last {dead_window} training tokens, but at the last "
    "point had fired on those before it",
    change=None,
)
REVIVED = replace(
    DIED,
    name="revived_fraction",
    label="latents that revived since the last point",
    axis="revived since the last point, %",
    definition="share of all latents that fired on the last {dead_window} training tokens, but at the last point "
    "had not fired on those before it",
    better="higher",
)


def _silent_within(name: str, tokens: str) -> Metric:
    return replace(
        SILENT,
        name=name,
        label=f"latents that are silent for {tokens} training tokens",
        axis=f"silent for the last\n{tokens} training\ntokens, %",
        definition=f"share of the latents that did not fire on the last {tokens} training tokens, while the "
        "weights changed",
        change=None,
    )


TRAINING: tuple[Metric, ...] = (
    replace(
        FVU,
        label="training FVU",
        axis="training FVU",
        definition="sum of squared errors over the sum of squares of what the SAE sees, about the training mean "
        "(with `inputs: uncentred` or `layer_norm` about 0), on the batches since the last point, before the "
        "update that each one causes",
        change=None,
        measured_by=MEASURED_BY,
        places=("train",),
    ),
    replace(
        L0,
        label="training L0",
        axis="training L0",
        definition="mean number of active latents per token on the batches since the last point",
        measured_by=MEASURED_BY,
        places=("train",),
    ),
    SILENT,
    DIED,
    REVIVED,
    *(_silent_within(name, tokens) for name, tokens in WINDOWS.items()),
)
