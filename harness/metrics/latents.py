"""What else is found about a study's sampled latents: which are dead, which are directions, which recur."""

from __future__ import annotations

from harness.metrics.interpretability import NUMBER, POINTS, SCORES, of_latents
from harness.metrics.metric import Metric

OF_LATENTS: tuple[Metric, ...] = (  # of the study key `interpretability`
    *SCORES,
    of_latents(
        "latents_dead",
        "dead latents of the sample",
        "share of the sampled latents that fire on no token of the text on which latents are read",
        better="lower",
        places=("final", "layer"),
    ),
    of_latents(
        "latents_dense",
        "dense latents",
        "share of the sampled latents that fire on more than 10 % of the tokens",
        better="lower",
    ),
    of_latents(
        "latents_token_only",
        "token-only latents",
        "share of the sampled latents whose detection is at least 70 % with random negatives, and below 60 % with "
        "those that have the same peak token, or has none of these, since it fires wherever the token stands",
    ),
    of_latents(
        "latents_unscored",
        "unscored latents",
        "share of the sampled latents that fire, but in too few windows to be explained and judged: fewer than "
        "two on either side",
        better="lower",
    ),
    of_latents(
        "invalid_answers",
        "invalid answers",
        "share of the judge's answers that are not valid; they count as wrong",
        better="lower",
    ),
    of_latents(
        "direction_cosine",
        "constancy of the direction",
        "mean cosine between what switching a latent off changes in the reconstruction at two different tokens, "
        "while later sparse layers code what is then left over: 1 for a latent that is a direction, as behind one "
        "linear decoder; over alive latents of the sample",
        axis="mean cosine between a latent's effects on two tokens",
        places=("final", "layer"),
        **(POINTS | NUMBER | {"bounds": (-1, 1)}),
    ),
    of_latents(
        "direction_share",
        "first principal share",
        "share of the sum of squares of these changes along one line, the first principal direction of the "
        "changes at other tokens; over alive latents of the sample",
        better="higher",
    ),
    of_latents(
        "logit_kl",
        "effect on next-token predictions",
        "mean KL divergence of the language model's predictions without the latent from its own, KL(own ‖ "
        "without), in nats, at the tokens on which it fires most; over alive latents of the sample",
        axis="KL divergence, nats",
        **(NUMBER | {"unit": " nats", "digits": 4, "bounds": (0, None)}),
    ),
    of_latents(
        "shallow_cosine",
        "nearness to a shallow SAE's latent",
        "cosine of a latent's mean direction with the nearest decoder row of the baseline's SAEs of other seeds, "
        "among rows of alive latents; over alive latents of the sample",
        axis="cosine with the nearest row of the baseline",
        **(NUMBER | {"bounds": (-1, 1)}),
    ),
    of_latents(
        "found_again",
        "latents found again",
        "share of all latents that the SAE of another seed has, too: a latent whose activations on the text "
        "correlate above 0.7 with this one's, one to one; dead ones count as not found; mean over the other seeds",
        pairs=True,
        **POINTS,
    ),
    of_latents(
        "found_again_weighted",
        "latents found again, weighted by firing rate",
        "the same, each latent weighted by its firing rate",
        better="higher",
        pairs=True,
    ),
)
