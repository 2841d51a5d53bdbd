"""How many latents are active on a token, and how many are dead, on held-out activations."""

from __future__ import annotations

from dataclasses import replace

from harness.metrics.metric import Metric

L0 = Metric(
    "l0",
    "L0",
    axis="held-out L0",
    definition="mean number of active latents (value above zero) per token, in one sparse layer or in all; "
    "FVU falls as L0 rises, so arms are compared fairly only where it is equal",
    digits=2,
    places=("final", "layer", "heldout"),
)
DEAD = Metric(
    "dead_fraction",
    "dead latents",
    axis="dead on held-out tokens, %",
    definition="share of the latents that did not fire on the first {dead_window} held-out tokens",
    scale=100,
    unit=" %",
    digits=1,
    change="points",
    better="lower",
    bounds=(0, 1),
    places=("final", "layer"),
)
# Windows that other packages have: the name of a metric, and the number of tokens in words
WINDOWS = {"dead_fraction_1_5m_tokens": "1.5 million", "dead_fraction_10m_tokens": "10 million"}


def _dead_within(name: str, tokens: str) -> Metric:
    return replace(
        DEAD,
        name=name,
        label=f"dead within {tokens} tokens",
        axis=f"dead on {tokens} held-out tokens, %",
        definition=f"share of the latents that did not fire on the first {tokens} held-out tokens",
        optional="where there are as many held-out tokens",
        change=None,
        places=("final",),
    )


SPARSITY: tuple[Metric, ...] = (
    L0,
    DEAD,
    *(_dead_within(name, tokens) for name, tokens in WINDOWS.items()),
    replace(
        DEAD,
        name="dead_fraction_all_tokens",
        label="dead on all held-out tokens",
        axis="dead on all held-out tokens, %",
        definition="share of the latents that fired on no held-out token",
        change=None,
        places=("final",),
    ),
    Metric(
        "alive",
        "alive latents",
        axis="latents alive on held-out tokens",
        definition="number of latents that are not dead",
        digits=0,
        better="higher",
    ),
    Metric(
        "effective_latents",
        "effective latents",
        axis="effective latents",
        definition="exp of the entropy of the latents' shares of all firings: their number if all fire equally "
        "often, 1 if one does all the firing",
        digits=0,
        better="higher",
    ),
)
