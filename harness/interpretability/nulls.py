"""SAEs that nobody has trained, as nulls for what is said of the latents of trained ones.

Each dimension of the activations, or each of their principal components, is two latents, one for either sign; the
k with the largest values are active, as in a top-k SAE. Cunningham et al. 2023 (arXiv 2309.08600, section 3)
compare latents with such bases.

Shape letters: I width of the input and D of the target (one and the same for an SAE), B tokens of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from harness.activations.store import ActivationStore
from harness.study.interpretability import NULLS
from harness.study.recipe import Recipe
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig
from harness.training.trained_sae import TrainedSAE

TOKENS = 131_072  # of training activations, at most, that components are taken from
BLOCK = 8192  # tokens


def null_saes(store: Path, recipe: Recipe, device: str) -> dict[str, TrainedSAE]:
    """By name (`NULLS`) the nulls for SAEs of this recipe, which have as many active latents per token.

    A transcoder's nulls predict its targets linearly: by least squares from all dimensions or components, of which
    the k active ones are used.
    """
    opened = ActivationStore.open(store)
    moments = _moments(opened, device)
    neurons = torch.eye(opened.width, dtype=torch.float64, device=device)
    bases = zip(NULLS, (neurons, _components(moments.of_input)), strict=True)
    return {name: _sae(opened, recipe, moments, basis).to(device) for name, basis in bases}


class _Moments(NamedTuple):
    """Means of products over training tokens, centred and scaled, float64."""

    of_input: Tensor  # [I, I]
    with_target: Tensor | None  # [I, D]; None for an SAE


def _moments(store: ActivationStore, device: str) -> _Moments:
    sums: list[Tensor] = []
    for x, target in _blocks(store, device):
        products = [x.T @ x] if target is None else [x.T @ x, x.T @ target]
        sums = products if not sums else [total + product for total, product in zip(sums, products, strict=True)]
    of_input, *others = (total / _tokens(store) for total in sums)
    return _Moments(of_input, others[0] if others else None)


def _tokens(store: ActivationStore) -> int:
    """How many training tokens are looked at: of a streamed store the first window is on disk."""
    return min(TOKENS, store.window if store.manifest.get("feed") == "stream" else TOKENS, store.tokens("train"))


def _blocks(store: ActivationStore, device: str) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Training inputs [B, I] and a transcoder's targets [B, D], float64."""
    for start in range(0, tokens := _tokens(store), BLOCK):
        here = "train", start, min(start + BLOCK, tokens)
        x, *targets = (
            _centring(one).to(torch.device(device)).centre(torch.from_numpy(one.read(*here)).to(device)).double()
            for one in (store, store.targets)
            if one is not None
        )
        yield x, targets[0] if targets else None


def _components(covariance: Tensor) -> Tensor:
    """The principal components, of unit norm, that with the largest variance first: rows of [I, I].

    The entry that is largest by its size is positive in each.
    """
    rows: Tensor = torch.linalg.eigh(covariance).eigenvectors.T.flip(0)
    return rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()


def _sae(store: ActivationStore, recipe: Recipe, moments: _Moments, basis: Tensor) -> TrainedSAE:
    """Latents that read the rows of an orthonormal basis [I, I], and those rows with the other sign."""
    decoder = basis
    if moments.with_target is not None:  # basis · (E[x xᵀ])⁻¹ E[x yᵀ]
        decoder = basis @ torch.linalg.pinv(moments.of_input, hermitian=True) @ moments.with_target
    latents = 2 * len(basis)
    k = min(recipe.k, latents - 1)  # with more than half of them, all that are positive are active
    plain = Recipe(latents=latents, k=k, tokens=recipe.tokens, batch=recipe.batch, dead_window=recipe.dead_window)
    targets = store.targets
    config = SAEConfig(
        plain,
        _centring(store),
        _centring(targets or store),
        data=store.fingerprint,
        k=k,
        transcoder=targets is not None,
        hook=store.manifest["hook"],
        target_hook=None if targets is None else targets.manifest["hook"],
    )
    weights = {
        "encoder": torch.cat([basis, -basis]),
        "bias": torch.zeros(latents),
        "decoder": torch.cat([decoder, -decoder]),
        "decoder_mlp.bias_out": torch.zeros(decoder.shape[1]),
    }
    here = {f"coders.0.{name}": tensor.float().cpu().contiguous() for name, tensor in weights.items()}
    return TrainedSAE.of_weights(config, here)


def _centring(store: ActivationStore) -> Centring:
    return Centring(torch.from_numpy(store.mean), torch.tensor(store.scale), torch.from_numpy(store.std))
