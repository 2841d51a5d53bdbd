"""Auxiliary terms of the loss: small functions of an SAE and what it made of a batch, each a number.

Shape letters: B tokens, D activation width, N latents of one coder, W width at its sparse layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.sae import dead_latents, gpu
from harness.sae.model import SAE, Coder, CoderOutput, SAEOutput
from harness.sae.sparse import active_entries, positive_means, pre_activations
from harness.sae.support import Support
from harness.sae.topk import top_k


@dataclass(frozen=True)
class BatchStatistic:
    """A term that depends on a batch, and on the weights, through means over its tokens alone.

    So it can be had in micro-batches: those of the whole batch are the means of theirs.
    """

    means: Callable[[SAE, SAEOutput], list[Tensor]]  # one for each coder, of any shape
    value: Callable[[SAE, Sequence[Tensor]], Tensor]  # of such means; a number

    def __call__(self, sae: SAE, output: SAEOutput) -> Tensor:
        return self.value(sae, self.means(sae, output))


def linear_means(sae: SAE, output: SAEOutput) -> list[Tensor]:
    """Batch means of W x + b: [N] of each coder.

    mean_b(W x_b + b) = W mean_b(x_b) + b: no dense product, and a gradient of rank one. On centred activations the
    mean of x is near 0 and what is made of these means acts on the biases almost alone.
    """
    return [linear(part.input.mean(0), coder.encoder, coder.bias) for coder, part in _pairs(sae, output)]


def relu_means(sae: SAE, output: SAEOutput) -> list[Tensor]:
    """Batch means of relu(W x + b), as the original deep-SAE code had it: [N] of each coder."""
    return [
        positive_means(part.input, coder.encoder, coder.bias, _pre_activations_of(coder, part))
        for coder, part in _pairs(sae, output)
    ]


def spread(sae: SAE, means: Sequence[Tensor]) -> Tensor:
    """Standard deviation over latents of their means, averaged over coders.

    A latent whose mean lies far below the others' is never selected; holding the means together keeps it in play.
    """
    return torch.stack([m.std() for m in means]).mean()


def spread_at_unit_norm(sae: SAE, means: Sequence[Tensor]) -> Tensor:
    """`spread`, in such a unit that its weight is what it is in a loss on tokens of norm 1, as the original's.

    Here the entries of what is reconstructed have variance 1, so that its tokens have norm sqrt(D) and the error
    is D times as large; pre-activations are sqrt(I) times as large, unless added layers end in a LayerNorm.
    """
    first = sae.stack()[0]
    target_width, width = len(first.decoder_mlp.bias_out), first.encoder.shape[1]
    return spread(sae, means) * (target_width if len(first.encoder_mlp.blocks) else target_width / width**0.5)


relu_spread = BatchStatistic(relu_means, spread)
linear_spread = BatchStatistic(linear_means, spread)
relu_spread_at_unit_norm = BatchStatistic(relu_means, spread_at_unit_norm)
linear_spread_at_unit_norm = BatchStatistic(linear_means, spread_at_unit_norm)


def activities(sae: SAE, output: SAEOutput) -> list[Tensor]:
    """What each coder's sparsifier charges for: a number."""
    return [coder.sparsifier.activity(part.code) for coder, part in _pairs(sae, output)]


def charges(sae: SAE, means: Sequence[Tensor]) -> Tensor:
    """What the sparsifiers charge, summed over coders."""
    pairs = zip(sae.stack(), means, strict=True)
    return torch.stack([coder.sparsifier.charge(activity) for coder, activity in pairs]).sum()


activity = BatchStatistic(activities, charges)  # L1 for `relu`, (L0 / k - 1)^2 for `jumprelu`


def prefix_error(sae: SAE, output: SAEOutput, shares: Sequence[float]) -> Tensor:
    """Mean squared errors of what the first latents of each coder reconstruct alone, summed over their shares.

    Matryoshka SAEs: Bussmann et al. 2025 (arXiv 2503.17547).
    """
    target = output.coders[0].target  # what all of them reconstruct
    assert target is not None
    errors = [(target - _prefix(sae, output, share)).square().mean() for share in shares]
    return torch.stack(errors).sum()


def _prefix(sae: SAE, output: SAEOutput, share: float) -> Tensor:
    """The reconstruction [B, D] from each coder's first latents."""
    total = torch.zeros_like(output.reconstruction)
    for coder, part in _pairs(sae, output):
        support = part.code.support
        total = total + coder.decode(*support.first(part.code.values, max(1, round(share * support.latents))))
    return total


def aux_k_error(dead: Tensor, k: int) -> BatchStatistic:
    """FVU of what the k strongest dead latents make of the error, averaged over coders.

    dead: [latents of all coders], bool. The error itself is taken as given; what is scored is the decoder's
    answer to them beside its answer to nothing. Gao et al. 2024 (arXiv 2406.04093), appendix A.2; the division
    by the variance of the error is in their code (`normalized_mse` in openai/sparse_autoencoder, train.py). Zero
    where no latent is dead; scaled down where fewer than k are, as sparsify does.
    """

    def means(sae: SAE, output: SAEOutput) -> list[Tensor]:
        """Of each coder: mean squares of what is missed and of the error, and the mean error [D]."""
        masks = torch.split(dead, [coder.latents for coder in sae.stack()])
        pairs = zip(_pairs(sae, output), masks, strict=True)
        return [mean for (coder, part), mask in pairs for mean in _aux_k(coder, part, mask, k)]

    return BatchStatistic(means, _missed_of_variance)


def _missed_of_variance(sae: SAE, means: Sequence[Tensor]) -> Tensor:
    coders = zip(means[::3], means[1::3], means[2::3], strict=True)
    shares = [missed / (squares - mean.square().mean()).clamp_min(1e-12) for missed, squares, mean in coders]
    return torch.stack(shares).mean()


def _aux_k(coder: Coder, part: CoderOutput, dead: Tensor, k: int) -> list[Tensor]:
    if dead_latents.takes(coder, part):
        return dead_latents.mean_squares(coder, part, dead, k)
    with torch.no_grad():
        error = part.residual
        of_error = [error.square().mean(), error.mean(0)]
        entries, indices, share = _strongest(coder, part, dead, k)
        support = Support.of_rows(indices, coder.latents)
    if not len(indices.flatten()):
        return [part.reconstruction.new_zeros(()), *of_error]
    active = active_entries(part.input, coder.encoder, coder.bias, entries.flatten(), support).relu()
    if gpu.holds(dead):
        active = active * dead[support.indices]  # where fewer than k are dead, living ones are among the strongest
    nothing: Tensor = coder.decoder_mlp(torch.zeros_like(coder.decoder[:1]))
    missed = error - (coder.decode(active, support) - nothing)
    return [missed.square().mean() * share, *of_error]


def _strongest(coder: Coder, part: CoderOutput, dead: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor | float]:
    """The pre-activations [B, K] of the k strongest dead latents, which they are, and how many of k there are.

    On a GPU all latents are looked through, since to learn how many are dead would be to wait for it.
    """
    if gpu.holds(dead):
        lowest = _pre_activations_of(coder, part).masked_fill(~dead, -torch.inf)
        return *top_k(lowest, min(k, coder.latents)), (dead.sum() / k).clamp(max=1)
    columns = dead.nonzero()[:, 0]
    if not len(columns):
        return part.input.new_zeros(len(part.input), 0), columns.expand(len(part.input), 0), 0.0
    entries, places = top_k(_pre_activations_of(coder, part, columns), min(k, len(columns)))
    return entries, columns[places], min(1, len(columns) / k)


def _pre_activations_of(coder: Coder, part: CoderOutput, latents: Tensor | None = None) -> Tensor:
    """The pre-activations of some latents or of all: [B, latents], without gradient."""
    if (known := part.code.pre_activations) is not None:
        return known if latents is None else known[:, latents]
    every = slice(None) if latents is None else latents
    return pre_activations(part.input, coder.encoder[every], coder.bias[every])


def _pairs(sae: SAE, output: SAEOutput) -> list[tuple[Coder, CoderOutput]]:
    return list(zip(sae.stack(), output.coders, strict=True))
