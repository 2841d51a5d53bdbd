"""What a trained SAE does to the language model: its predictions with the reconstruction in place."""

from __future__ import annotations

import torch

from harness.evaluation.language_model import LanguageModelRun, mean_of
from harness.evaluation.measurements import Figures
from harness.training.trained_sae import TrainedSAE


@torch.no_grad()
def measure(sae: TrainedSAE, run: LanguageModelRun) -> Figures:
    """Cross-entropy and KL divergence in nats per token, and the share of the ablations' harm that it undoes.

    A share is absent where the ablation does the model no harm.
    """
    losses, divergences = [], []
    for batch, own, log_probs in run.predictions(sae(run.alone.inputs)):
        losses.append(batch.losses(log_probs))
        divergences.append(own.divergence(log_probs))
    loss, alone = mean_of(losses), run.alone.loss
    shares = {"loss_recovered": run.loss_with_zeros, "loss_recovered_mean": run.loss_with_mean}
    return {
        "ce_loss_with_sae": loss,
        "ce_loss_increase": loss - alone,
        "kl_divergence": mean_of(divergences),
        **{name: (ablated - loss) / (ablated - alone) for name, ablated in shares.items() if ablated > alone},
    }
