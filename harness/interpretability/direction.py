"""Is a latent a direction? What switching it off changes in the reconstruction, token by token.

Behind a linear decoder a latent adds a multiple of its decoder row. Behind dense layers, or where further sparse
layers code what it leaves over, its effect may differ from token to token.

Shape letters: B tokens, I width of what an SAE reads, D of what it reconstructs, n latents that are looked at, E
tokens of one latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from harness.interpretability.cell import CellLatents, Columns
from harness.interpretability.firings import Firings
from harness.training.inputs import TokenStatistics
from harness.training.trained_sae import BATCH, TrainedSAE

TOKENS = 64  # of each latent, at random from those that it fires on


class Directions(NamedTuple):
    """Of n latents; NaN where one fires on fewer than two tokens, or changes nothing on them.

    cosine: the mean cosine between the effects on two different tokens; 1 for a direction, about 0 for effects
    that have nothing in common. share: how much of the sum of squares of the effects lies along one line, the
    principal one of the other tokens. Neither grows as tokens get fewer. mean: of the effects at unit norm, itself
    at unit norm.
    """

    cosine: NDArray[np.float64]  # [n]
    share: NDArray[np.float64]  # [n]
    mean: NDArray[np.float32]  # [n, D]


@torch.no_grad()
def effects_of(sae: TrainedSAE, x: Tensor, latents: Tensor) -> Tensor:
    """What the reconstruction of each token loses when one latent is switched off there: [B, D], float32.

    x [B, I]: tokens in the language model's units, on the SAE's device, as the effects are. latents [B]: which one
    at each of them, counted over all coders. The rest of the SAE runs again without it: coders behind it see what
    it leaves over, and may make up for it. All zeros where it does not fire.
    """
    ends = torch.tensor([coder.latents for coder in sae.sae.stack()], device=x.device).cumsum(0)
    of_coder = torch.searchsorted(ends, latents, right=True)
    lost = x.new_zeros(len(x), len(sae.target_mean))
    for number, (end, coder) in enumerate(zip(ends.tolist(), sae.sae.stack(), strict=True)):
        rows = (of_coder == number).nonzero().squeeze(1)
        for some in torch.split(rows, BATCH):
            lost[some] = _of_coder(sae, x[some], number, latents[some] - (end - coder.latents))
    return lost


def _of_coder(sae: TrainedSAE, x: Tensor, number: int, latents: Tensor) -> Tensor:
    """The same for latents of one coder, counted within it."""
    coders = sae.sae.stack()
    given = sae.inputs.there(sae.input.centre(x), sae.input)
    output = sae.sae(given.x)
    part = output.coders[number]
    support = part.code.support
    without = part.code.values * (support.indices != latents[support.tokens])
    lost = part.reconstruction - coders[number].decode(without, support)
    if not sae.sae.is_transcoder:  # all coders of a transcoder read its input
        left = part.residual + lost
        for later, before in zip(coders[number + 1 :], output.coders[number + 1 :], strict=True):
            now = later(left, left)
            lost = lost + before.reconstruction - now.reconstruction
            left = now.residual
    whole, rest = (
        sae.target.restore(sae.inputs.back(rows, sae.target, given.token))
        for rows in (output.reconstruction, output.reconstruction - lost)
    )
    return whole - rest


def directions_of(
    sae: TrainedSAE, x: Tensor, firings: Firings, latents: NDArray[np.int64], seed: int
) -> Directions:
    """How constant the effects of these latents [n] are, each on a random sample of the tokens that it fires on.

    x [T, I]: all tokens of the text, in the language model's units.
    """
    found = [direction_of(effects.double().cpu()) for effects in _effects(sae, x, firings, latents, seed)]
    cosine, share, mean = zip(*found, strict=True)
    return Directions(np.array(cosine), np.array(share), torch.stack(mean).float().numpy())


def _effects(
    sae: TrainedSAE, x: Tensor, firings: Firings, latents: NDArray[np.int64], seed: int
) -> Iterator[Tensor]:
    """Of each latent, [E, D]; of many latents at once."""
    device = sae.target_mean.device
    for some in np.array_split(latents, max(1, len(latents) * TOKENS // (4 * BATCH))):
        tokens = [_tokens(firings, int(latent), seed) for latent in some]
        counts = [len(own) for own in tokens]
        rows = x[torch.from_numpy(np.concatenate(tokens))].to(device)
        which = torch.from_numpy(np.repeat(some, counts)).to(device)
        yield from torch.split(effects_of(sae, rows, which), counts)


def _tokens(firings: Firings, latent: int, seed: int) -> NDArray[np.int64]:
    tokens, _ = firings.of(latent)
    return np.random.default_rng([seed, 3, latent]).permutation(tokens)[:TOKENS]


def direction_of(effects: Tensor) -> tuple[float, float, Tensor]:
    """Cosine, share and mean [D], as in `Directions`, of one latent's effects [E, D], in a random order."""
    effects = effects[(effects != 0).any(1)]
    total = len(effects)
    if total < 2:
        return np.nan, np.nan, torch.full_like(effects[:1].sum(0), torch.nan)
    unit = normalize(effects, dim=1)
    sum_of_units = unit.sum(0)
    cosine = (float(sum_of_units.square().sum()) - total) / (total * (total - 1))
    one, other = effects[::2], effects[1::2]
    share = (_along(_principal(one), other) + _along(_principal(other), one)) / 2
    return cosine, share, normalize(sum_of_units, dim=0)


def _principal(effects: Tensor) -> Tensor:
    """The line along which effects [E, D] have most of their squares: [D], of unit norm."""
    line: Tensor = torch.linalg.svd(effects, full_matrices=False).Vh[0]
    return line


def _along(line: Tensor, effects: Tensor) -> float:
    return float((effects @ line).square().sum() / effects.square().sum())


def alive_rows(sae: TrainedSAE, firings: Firings) -> Tensor | None:
    """Decoder rows of the latents that fire, in the language model's space: [rows, D] of unit norm, on the CPU.

    None where no latent fires, or where dense layers come behind the rows.
    """
    coders = sae.sae.stack()
    if not firings.counts.any() or any(coder.decoder_mlp.weight_out is not None for coder in coders):
        return None
    rows = torch.cat([coder.decoder for coder in coders])[torch.from_numpy(np.flatnonzero(firings.counts))]
    token = TokenStatistics(rows.new_zeros(len(rows), 1), rows.new_ones(len(rows), 1))
    there, origin = (sae.inputs.back(some, sae.target, token) for some in (rows, torch.zeros_like(rows)))
    return normalize(there - origin, dim=1).cpu()


def directions(cell: CellLatents) -> Columns:
    """`direction_cosine` and `direction_share` of the sampled latents."""
    found = _of_sample(cell)
    return {"direction_cosine": found.cosine, "direction_share": found.share}


def shallow_cosine(cell: CellLatents, rows: Sequence[Tensor]) -> Columns:
    """`shallow_cosine`: the cosine of each sampled latent's mean direction with the nearest decoder row of an SAE.

    rows: the `alive_rows` of each SAE of the reference arm at another seed than the cell's; the mean over these.
    At the same seed the reference arm would be compared with itself, and others share initial weights with it.
    """
    mean = torch.from_numpy(_of_sample(cell).mean)
    if not rows:
        return {"shallow_cosine": np.full(len(mean), np.nan)}
    nearest = [(mean @ some.T).amax(1) for some in rows]
    return {"shallow_cosine": torch.stack(nearest).mean(0).double().numpy()}


def _of_sample(cell: CellLatents) -> Directions:
    return directions_of(cell.sae, cell.text.x, cell.firings, cell.sample, cell.asked.seed)
