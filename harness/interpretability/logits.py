"""What a latent does to the language model's next-token predictions: it runs with the latent switched off.

At the tokens on which a latent fires most, its effect on the reconstruction is taken from the model's own
activation. So what the SAE leaves over stays in place (as the error nodes of Marks et al. 2024, arXiv 2403.19647),
and only this latent is missing.

Shape letters: n tokens at which a latent is switched off, S positions of a context, D width of what an SAE
reconstructs, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.activations.hook import padding_arguments
from harness.evaluation.language_model import log_probs_at, vocabulary_of
from harness.interpretability.cell import CellLatents, Columns
from harness.interpretability.direction import effects_of
from harness.interpretability.text import Text
from harness.study.memory import FLOAT, LOGITS

CONTEXTS = 4  # of each latent, at most: those with its highest activations, at the token where it is highest
WORDS = 8  # that are listed of those whose logits rise most, and fall most
LATENTS = 256  # at a time; bounds the memory of the changes of all logits


def logit_effects(cell: CellLatents) -> Columns:
    """`logit_kl`, in nats, `logits_up` and `logits_down`, ids of tokens, of the sampled latents.

    logit_kl: KL(own ‖ without the latent) of the next-token prediction, mean over contexts. up: the tokens whose
    logits the latent raises most, by the mean over contexts; down: those that it lowers most; strongest first. NaN
    and None for a dead latent.
    """
    kl: list[float] = []
    up: list[list[int] | None] = []
    down: list[list[int] | None] = []
    for start in range(0, len(cell.sample), LATENTS):
        divergences, changes, counts = _of_latents(cell, cell.sample[start : start + LATENTS])
        means = changes / counts.clamp_min(1)[:, None]
        highest, lowest = (means.topk(min(WORDS, means.shape[1]), largest=most).indices for most in (True, False))
        kl += (divergences / counts).tolist()
        up += _lists(highest, counts)
        down += _lists(lowest, counts)
    return {"logit_kl": np.array(kl), "logits_up": up, "logits_down": down}


def _lists(words: Tensor, counts: Tensor) -> list[list[int] | None]:
    return [own if count else None for own, count in zip(words.tolist(), counts.tolist(), strict=True)]


def _of_latents(cell: CellLatents, latents: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over contexts of divergences [n] and of changes of log-probabilities [n, V], and their number [n].

    Log-probabilities of a context change as its logits do, but for a constant, which changes no order.
    """
    which, spots = _strongest(cell, latents)
    device = cell.sae.target_mean.device
    x = cell.text.x[torch.from_numpy(spots.row)].to(device)
    effects = effects_of(cell.sae, x, torch.from_numpy(latents[which]).to(device))
    divergences = torch.zeros(len(latents), dtype=torch.float64)
    changes = torch.zeros(len(latents), vocabulary_of(cell.text.opened.model))
    for some in _batches(spots.position, changes.shape[1]):
        own, without = _predictions(cell.text, spots.at(some), effects[some])
        to = torch.from_numpy(which[some])
        divergences.index_add_(0, to, (own.exp() * (own - without)).sum(1).clamp_min(0).double().cpu())
        changes.index_add_(0, to, (own - without).cpu())
    return divergences, changes, torch.from_numpy(np.bincount(which, minlength=len(latents)))


class _Spots(NamedTuple):
    """Tokens of a text [n]: their rows, contexts, and positions in these."""

    row: NDArray[np.int64]
    context: NDArray[np.int64]
    position: NDArray[np.int64]

    def at(self, places: slice | NDArray[np.int64]) -> _Spots:
        return _Spots(*(part[places] for part in self))


def _strongest(cell: CellLatents, latents: NDArray[np.int64]) -> tuple[NDArray[np.int64], _Spots]:
    """Where latents are highest, one token per context: the place of each one's latent among them, and the tokens.

    Ordered by position, so that contexts that run together are of about one length.
    """
    rows = cell.text.rows
    places = np.flatnonzero(rows.ravel() >= 0)
    found: list[NDArray[np.int64]] = []
    for latent in latents:
        tokens, values = cell.firings.of(int(latent))
        tokens = tokens[np.argsort(-values, kind="stable")]
        _, firsts = np.unique(places[tokens] // rows.shape[1], return_index=True)
        found.append(tokens[np.sort(firsts)[:CONTEXTS]].astype(np.int64))
    which = np.repeat(np.arange(len(latents)), [len(own) for own in found])
    row = np.concatenate(found)
    spots = _Spots(row, *np.divmod(places[row], rows.shape[1]))
    order = np.argsort(spots.position, kind="stable")
    return which[order], spots.at(order)


def _batches(positions: NDArray[np.int64], vocabulary: int) -> Iterator[slice]:
    """Slices of ascending positions whose logits fit into memory: contexts are cut behind their last position."""
    start = 0
    while start < len(positions):
        stop = start + 1
        while stop < len(positions) and FLOAT * (stop + 1 - start) * (positions[stop] + 1) * vocabulary <= LOGITS:
            stop += 1
        yield slice(start, stop)
        start = stop


def _predictions(text: Text, spots: _Spots, effects: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [n, V] behind tokens [n]: the model's own, and those without the effects [n, D] there."""
    opened, device = text.opened, effects.device
    end = int(spots.position.max()) + 1
    ids = torch.from_numpy(text.ids[spots.context, :end]).to(device)
    mask = None if text.mask is None else torch.from_numpy(text.mask[spots.context, :end]).to(device)
    positions = torch.from_numpy(spots.position).to(device)
    padding = padding_arguments(opened.model, mask)

    def without(states: Tensor) -> Tensor:
        here, there = torch.arange(len(states), device=states.device), positions.to(states.device)
        changed = states.clone()
        changed[here, there] = (states[here, there].float() - effects.to(states.device)).to(states.dtype)
        return changed

    own = log_probs_at(opened.model, ids, positions, padding)
    return own, log_probs_at(opened.model, ids, positions, padding, (opened.replaces, without))
