"""How well an SAE's latents recover features that are known.

Shape letters: T tokens, N latents, F features that fire, A entries of a block, B its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import embedding_bag

from harness.evaluation.measurements import Figures
from harness.training.metrics import Coding, HeldOut
from harness.training.trained_sae import TrainedSAE


class Codes(NamedTuple):
    """The codes of some tokens that stand together; what is not an entry is 0."""

    start: int  # the first of these tokens
    stop: int  # the token after the last one
    tokens: Tensor  # [A], int32, counted from `start`
    latents: Tensor  # [A], int32
    values: Tensor  # [A]


@dataclass(frozen=True)
class Recovery:
    """Each from 0, nothing, to 1, perfect; `recovery` says how they are measured."""

    mcc: float
    f1: float
    uniqueness: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def measure(sae: TrainedSAE, held_out: HeldOut) -> Figures:
    """MCC, F1 and uniqueness on all held-out tokens; nothing where the source does not know its features."""
    if (features := held_out.features()) is None:
        return {}
    return recovery(codes_of(sae.code, held_out), sae.sae.latents, features).as_dict()


@torch.no_grad()
def codes_of(code: Coding, held_out: HeldOut) -> list[Codes]:
    """The codes of all held-out tokens, a block for each batch."""
    blocks = []
    for start in range(0, len(held_out.x), held_out.batch):
        x, target = (rows[start : start + held_out.batch] for rows in (held_out.x, held_out.target))
        codes = [part.code for part in code(x, target).coders]
        first = accumulate((code.support.latents for code in codes), initial=0)  # latents of the coders before
        active = [code.values > 0 for code in codes]
        latents = [c.support.indices[on] + n for c, on, n in zip(codes, active, first, strict=False)]
        tokens = [code.support.tokens[on] for code, on in zip(codes, active, strict=True)]
        values = [code.values[on] for code, on in zip(codes, active, strict=True)]
        stop = start + len(x)
        blocks.append(Codes(start, stop, torch.cat(tokens).int(), torch.cat(latents).int(), torch.cat(values)))
    return blocks


@torch.no_grad()
def recovery(codes: Sequence[Codes], latents: int, features: Tensor) -> Recovery:
    """Compare an SAE's codes with the true features [T, all features] of the same T tokens.

    codes: blocks that together have every token once. Features that never fire (value above zero) on these tokens
    are left out: F counts those that do.

    mcc: mean correlation coefficient (Hyvärinen & Morioka 2016, arXiv 1605.06336): mean over the
    features of |Pearson correlation| over tokens between a feature and the latent that is matched to it.
    The matching is one to one and maximises that mean (Hungarian algorithm). A feature that is left
    unmatched, as some are where N < F, counts 0; so does what is constant, such as a dead latent.

    f1: mean over the features of 2 P R / (P + R), with P and R precision and recall of 'the matched latent
    fires' as a statement about 'the feature fires'; 0 where unmatched.

    uniqueness: number of distinct features among those that correlate best with some latent that fires,
    divided by min(latents that fire, F): below 1 where latents share one feature and leave others to none.

    All are 0 if no feature fires. Tensors may be of any dtype and lie on any one device. Memory goes with the
    entries, with N times F and with B times F, never with T times N (`harness.study.memory`).
    """
    firings = torch.zeros(features.shape[1], dtype=torch.int64, device=features.device)
    for block in codes:
        firings += (_rows(features, block) > 0).sum(0)
    kept = firings.nonzero()[:, 0]
    if not len(kept) or not latents:
        return Recovery(0.0, 0.0, 0.0)
    fired = _total(codes, latents, [(block.values > 0).double() for block in codes])
    alike = _correlations(codes, latents, features, kept).abs_().clamp_(max=1)
    found = linear_sum_assignment(alike.cpu().numpy(), maximize=True)
    rows, columns = (torch.from_numpy(places).to(alike.device) for places in found)
    both = _firing_together(codes, latents, features, rows, kept[columns])
    return Recovery(
        mcc=float(alike[rows, columns].sum() / len(kept)),
        f1=float((2 * both / (fired[rows] + firings[kept[columns]])).sum() / len(kept)),
        uniqueness=_uniqueness(alike, fired > 0),
    )


def _rows(features: Tensor, block: Codes) -> Tensor:
    return features[block.start : block.stop]


def _total(codes: Sequence[Codes], latents: int, values: Sequence[Tensor]) -> Tensor:
    """Sum of each latent's values, given for the entries of every block: [N], float64."""
    total = torch.zeros(latents, dtype=torch.float64, device=values[0].device)
    for block, of_block in zip(codes, values, strict=True):
        if total.is_cuda:  # where index_add_ adds in any order
            total.index_put_((block.latents.long(),), of_block.double(), accumulate=True)
        else:
            total.index_add_(0, block.latents, of_block.double())
    return total


def _correlations(codes: Sequence[Codes], latents: int, features: Tensor, kept: Tensor) -> Tensor:
    """Pearson correlations of latents with the features `kept` [F]: [N, F], float64; 0 for what is constant.

    With a feature about its mean, the sum over a latent's entries alone is that over all tokens of both about
    theirs. Rounding leaves something of a constant about its mean, so that constants are found by their extremes.
    """
    products = torch.zeros(latents, len(kept), dtype=torch.float64, device=features.device)
    mean = products.new_zeros(len(kept))
    for block in codes:
        mean += _rows(features, block).sum(0, dtype=torch.float64)[kept] / len(features)
    squares, low, high = (
        torch.zeros_like(mean),
        torch.full_like(mean, torch.inf),
        torch.full_like(mean, -torch.inf),
    )
    for block in codes:
        about_mean = _rows(features, block)[:, kept].double().sub_(mean)  # [B, F]
        squares += torch.linalg.vector_norm(about_mean, dim=0).square()
        low, high = torch.minimum(low, about_mean.amin(0)), torch.maximum(high, about_mean.amax(0))
        products += _sums_by_latent(block, latents, about_mean)
        del about_mean  # before there is another one
    lengths = torch.where(low < high, squares, 0).sqrt() * _spread(codes, latents, len(features)).sqrt()[:, None]
    return products.div_(lengths.masked_fill_(lengths == 0, torch.inf))


def _sums_by_latent(block: Codes, latents: int, rows: Tensor) -> Tensor:
    """Sum over a latent's tokens of value times the token's row: rows [B, F] -> [N, F]."""
    order = torch.sort(block.latents, stable=True).indices
    counts = torch.bincount(block.latents, minlength=latents)
    starts = (counts.cumsum(0) - counts).int()
    weights = block.values[order].double()
    return embedding_bag(block.tokens[order], rows, starts, per_sample_weights=weights, mode="sum")


def _spread(codes: Sequence[Codes], latents: int, tokens: int) -> Tensor:
    """Sum of squares over all tokens of each latent about its mean: [N]; exactly 0 where it is constant."""
    count = _total(codes, latents, [torch.ones_like(block.values) for block in codes])
    mean = _total(codes, latents, [block.values for block in codes]) / tokens
    about_mean = [(block.values.double() - mean[block.latents]).square() for block in codes]
    squares = _total(codes, latents, about_mean) + (tokens - count) * mean.square()
    somewhere_0 = torch.zeros_like(squares).masked_fill_(count >= tokens, torch.inf)
    low, high = somewhere_0, -somewhere_0
    for block in codes:
        places, values = block.latents.long(), block.values.double()
        low = low.scatter_reduce(0, places, values, "amin")
        high = high.scatter_reduce(0, places, values, "amax")
    return torch.where(low < high, squares, 0)


def _firing_together(
    codes: Sequence[Codes], latents: int, features: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Tokens on which both of a pair fire: latents `rows` [n] and features `columns` [n] -> [n], float64."""
    partner = torch.full((latents,), -1, device=features.device)
    partner[rows] = columns
    together = []
    for block in codes:
        theirs = partner[block.latents]
        fires = _rows(features, block)[block.tokens, theirs.clamp(min=0)] > 0
        together.append(((theirs >= 0) & (block.values > 0) & fires).double())
    return _total(codes, latents, together)[rows]


def _uniqueness(alike: Tensor, fires: Tensor) -> float:
    """From |correlations| [N, F], and which latents fire [N]."""
    if not fires.any():
        return 0.0
    best, feature = alike.max(dim=1)
    return len(set(feature[fires & (best > 0)].tolist())) / min(int(fires.sum()), alike.shape[1])
