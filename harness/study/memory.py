"""The memory that training takes: what a cell keeps, and what it needs while it has its turn.

In a cohort one cell steps at a time, so that what they keep adds up and what they need in passing does not. The
factors below, and those of the catalogue's members, are measured (torch 2.13 on a CPU), and
tests/study/test_memory.py holds them against real peaks. A GPU has an account of its own:
harness/study/gpu_memory.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from harness.sae.sizes import layer_widths
from harness.study.catalogue import OPTIMIZERS, SPARSIFIERS, parse_layers, terms_of
from harness.study.recipe import Recipe

ENTRY = 20  # numbers for each active latent of a token: value, gradient, indices, their order by latent
HIDDEN = 4  # numbers for each unit of an added layer and token
ROW = 4  # numbers for each dimension of a reconstruction
EVALUATED = 2048  # tokens at a time, when a cell is measured
COPIES = 2  # of the state, while a checkpoint is written
WINDOWS = 2  # of training tokens: this one and the next
FLOAT = 4  # bytes
# Bytes that a worker's language model takes beside its weights, at most: for the logits of a pass, for so many
# tensors of their size, and for what is kept of its own predictions
LOGITS, OF_THEIR_SIZE, PREDICTIONS = 2**25, 4, 2**28
# Bytes that comparing with known features takes (harness/evaluation/known_features.py): for each held-out token
# and feature, and as many more while these are read; for each active latent of a token; for each latent and
# feature; for each feature and token of a block.
FEATURE, READ, CODE, PAIR, BLOCK = 4, 4, 20, 17, 20


@dataclass(frozen=True)
class Memory:
    """Of one cell, in bytes.

    kept: as long as it trains. passing: while it has its turn. graph: on a GPU, what its graph keeps for the next
    replay, where other cells' graphs may use it in between. step: in all, at the peak of a training step.
    """

    kept: int
    passing: int
    graph: int = 0
    step: int = 0

    @property
    def alone(self) -> int:
        """What the cell needs without any other."""
        return together([self])


class KnownFeatures(NamedTuple):
    """What the latents of a cell are compared with at its end."""

    tokens: int  # held-out ones
    features: int

    def bytes(self, latents: int, k: int, evaluation: float) -> float:
        """For so many latents, k of them active; `evaluation`: what coding a batch takes."""
        codes, pairs = CODE * self.tokens * k, (PAIR * latents + BLOCK * EVALUATED) * self.features
        read = READ * self.tokens * self.features
        return FEATURE * self.tokens * self.features + max(read, codes + max(pairs, evaluation))


def together(cells: Iterable[Memory], at_once: int = 1) -> int:
    """Bytes that these cells need as a cohort. at_once: how many of them have their turns at the same time."""
    members = list(cells)
    turns = [sorted(each)[-at_once:] for each in ([c.graph for c in members], [c.passing for c in members])]
    return sum(cell.kept for cell in members) + sum(map(sum, turns))


def of_worker(held_out: int, window: int, width: int, itemsize: int, language_model: int = 0) -> int:
    """Bytes on its device that a worker needs besides those of its cells.

    held_out, window: tokens of both; width: dimensions of a token, its target's included; itemsize: bytes of an
    activation as it is stored; language_model: bytes of the one that makes a stream.
    """
    return FLOAT * held_out * width + WINDOWS * window * width * itemsize + language_model


def language_model_bytes(parameters: int, tokens: int, vocabulary: int) -> int:
    """What a language model takes on every worker that puts SAEs into it, on so many held-out tokens."""
    predictions = FLOAT * tokens * vocabulary
    return FLOAT * parameters + min(predictions, PREDICTIONS) + OF_THEIR_SIZE * min(predictions, LOGITS)


def memory(
    recipe: Recipe,
    width: int,
    parameters: int,
    latents: int,
    known: KnownFeatures | None = None,
    target_width: int | None = None,
) -> Memory:
    """Of a cell on a CPU with so many parameters and so many latents in all its layers.

    width: of the activations that it reconstructs, or from which it predicts targets of `target_width`.
    """
    per_token = _per_token(recipe, width, latents, target_width)
    optimizer = OPTIMIZERS[recipe.optimizer]
    kept = round(FLOAT * parameters * (1 + optimizer.kept))
    step = FLOAT * (parameters * (1 + optimizer.passing) + recipe.batch * per_token)
    evaluation = FLOAT * (parameters + EVALUATED * per_token)  # of a copy of the weights
    compared = known.bytes(latents, recipe.k, evaluation) if known else 0
    return Memory(kept, round(max(step, evaluation, compared, COPIES * kept)), step=kept + round(step))


def _per_token(recipe: Recipe, width: int, latents: int, target_width: int | None) -> float:
    """Numbers that a step holds for each token of its batch."""
    layers, terms = parse_layers(recipe.layers), terms_of(recipe)
    out = width if target_width is None else target_width
    chosen = SPARSIFIERS[recipe.sparsifier].memory + sum(term.memory for term in terms)
    hidden = sum((*layer_widths(width, layers.encoder), *layer_widths(out, layers.decoder)))
    decoded = 1 + sum(term.reconstructions(recipe) for term in terms)  # reconstructions of each layer
    return (
        latents * chosen
        + max(recipe.k, recipe.k_start or 0) * ENTRY * decoded
        + layers.depth * (hidden * HIDDEN + out * ROW * decoded)
        + (0 if target_width is None else width)  # the input, beside the target
    )
