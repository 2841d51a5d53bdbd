"""How well a trained SAE reconstructs held-out activations, with how many latents, and how many of them are dead.

Shape letters: N latents of all coders.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.evaluation.measurements import Figures
from harness.training.metrics import WINDOWS, HeldOut, Pass, reconstruction_figures
from harness.training.trained_sae import TrainedSAE


def measure(sae: TrainedSAE, held_out: HeldOut) -> Figures:
    """Reconstruction, activity and death on all held-out tokens, and `layers`: the figures of each sparse layer.

    A window that is longer than the held-out set has no figure.
    """
    passed, tokens = held_out.coded_by(sae.code), len(held_out.x)
    window = min(sae.config.recipe.dead_window, tokens)
    windows = {name: size for name, size in WINDOWS.items() if size <= tokens}
    return {
        **reconstruction_figures(passed.errors, passed.firings, held_out),
        "dead_fraction": dead_fraction(passed.first_fired, window),
        **{name: dead_fraction(passed.first_fired, size) for name, size in windows.items()},
        "dead_fraction_all_tokens": dead_fraction(passed.first_fired, tokens),
        "alive": int((passed.first_fired < window).sum()),
        "effective_latents": effective_number(passed.firings),
        "layers": _layers(passed, tokens, window),
    }


def dead_fraction(first_fired: Tensor, window: int) -> float:
    """Share of the latents that did not fire on the first `window` tokens; [N]: the first on which each did."""
    return 1 - float((first_fired < window).double().mean())


def effective_number(firings: Tensor) -> float:
    """exp(entropy) of the shares of `firings` [N]: N when all fire equally often, 1 when one does all firing."""
    total = firings.sum()
    if total == 0:
        return 0.0
    shares = firings[firings > 0] / total
    return float(torch.exp(-(shares * shares.log()).sum()))


def _layers(passed: Pass, tokens: int, window: int) -> list[dict[str, float]]:
    """Of each sparse layer, in the order in which they code.

    `unexplained`: sum of squares of what is left over after it / sum of squares of the target (an SAE's
    input).
    """
    firings, first_fired = (
        torch.split(counts, list(passed.latents)) for counts in (passed.firings, passed.first_fired)
    )
    seen, *left = passed.remainders
    return [
        {
            "l0": float(firings_here.sum() / tokens),
            "dead_fraction": dead_fraction(first_here, window),
            "unexplained": float(left_here / seen.clamp_min(1e-12)),
        }
        for firings_here, first_here, left_here in zip(firings, first_fired, left, strict=True)
    ]
