"""What an SAE does to the language model, with reconstructions in place of the activations."""

from __future__ import annotations

from dataclasses import replace

from harness.metrics.metric import Metric

MEASURED_BY = "harness.evaluation.loss_recovered:measure"

LOSS_RECOVERED = Metric(
    "loss_recovered",
    "loss recovered",
    axis="loss recovered, %",
    definition="(cross-entropy with zero ablation − that with the SAE) / (that with zero ablation − the language "
    "model's own); zero ablation puts 0 in place of the activations, the SAE its reconstructions; at 100 % the "
    "model predicts as well as without the SAE, at 0 as badly as with zero ablation",
    scale=100,
    unit=" %",
    digits=2,
    change="points",
    better="higher",
    bounds=(None, None),
    optional="where the source has text",
    measured_by=MEASURED_BY,
    measured_on="text",
)
CROSS_ENTROPY = replace(
    LOSS_RECOVERED,
    name="ce_loss_with_sae",
    label="cross-entropy with the SAE",
    axis="cross-entropy with the SAE, nats per token",
    definition="mean cross-entropy of the language model's next-token predictions, in nats per token, with "
    "reconstructions in place of the activations",
    scale=1,
    unit=" nats",
    digits=4,
    change=None,
    better="lower",
    bounds=(0, None),
)
LANGUAGE_MODEL: tuple[Metric, ...] = (
    LOSS_RECOVERED,
    replace(
        LOSS_RECOVERED,
        name="loss_recovered_mean",
        label="loss recovered (mean ablation)",
        axis="loss recovered (mean ablation), %",
        definition="the same with mean ablation, which puts the mean of the training activations in their place",
        change=None,
    ),
    CROSS_ENTROPY,
    replace(
        CROSS_ENTROPY,
        name="ce_loss_increase",
        label="cross-entropy added",
        axis="cross-entropy added, nats per token",
        definition="cross-entropy with the SAE less the language model's own, in nats per token",
        bounds=(None, None),
    ),
    replace(
        CROSS_ENTROPY,
        name="kl_divergence",
        label="KL divergence",
        axis="KL divergence, nats per token",
        definition="mean KL divergence of the predictions with the SAE from the language model's own, "
        "KL(own ‖ with the SAE), in nats per token",
    ),
)
