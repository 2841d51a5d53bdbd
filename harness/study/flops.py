"""The floating-point operations of a training step, from a recipe alone: the same on every machine.

Counted are products of matrices, and of rows with the active latents' rows, 2 for each multiply-add. What is done
entry by entry is left out: norms, activations, biases, moments of an optimizer. tests/study/test_flops.py holds it
against the products of real steps. Nobody knows before which latents will fire: k of them count as active whatever
the sparsifier, `aux_k` as dead, and a prefix as having its share of the active ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from harness.sae.sizes import apportion, layer_widths
from harness.study.catalogue import OPTIMIZERS, parse_layers, terms_of
from harness.study.catalogue.shapes import Shape, Shapes
from harness.study.recipe import Recipe


def coders(recipe: Recipe, width: int, target_width: int | None = None) -> list[Shapes]:
    """The coders of an SAE on activations of `width` dimensions, or of a transcoder from these to its targets."""
    out = width if target_width is None else target_width
    layers = parse_layers(recipe.layers)
    encoder_mlp = [width, *layer_widths(width, layers.encoder)]
    decoder_mlp = [*layer_widths(out, layers.decoder), out]  # without added layers: the width alone, no matrix
    sizes = apportion(recipe.latents, layers.stack)
    on_data = [number == 0 or target_width is not None for number in range(len(sizes))]
    return [
        Shapes(
            list(pairwise(encoder_mlp)),
            list(pairwise(decoder_mlp)),
            (n, encoder_mlp[-1]),
            (n, decoder_mlp[0]),
            first,
        )
        for n, first in zip(sizes, on_data, strict=True)
    ]


class Products(NamedTuple):
    """FLOPs of one training step on a whole batch, by what is multiplied."""

    pre_activations: float  # forward, of all latents
    dense: float  # other products of whole matrices, forward and backward
    gathered: float  # with the rows of the latents that are active on a token, forward and backward
    update: float  # of the optimizer

    def total(self) -> float:
        return sum(self)


def flops_per_token(recipe: Recipe, width: int, target_width: int | None = None) -> int:
    """Of a training step, its share of the optimizer's products included."""
    return round(products(recipe, width, target_width).total() / recipe.batch)


def products(recipe: Recipe, width: int, target_width: int | None = None) -> Products:
    """Of a training step."""
    found = coders(recipe, width, target_width)
    active = apportion(recipe.k, parse_layers(recipe.layers).stack)
    forward, dense, gathered = (
        recipe.batch * sum(part)
        for part in zip(*(_coder(recipe, shapes, k) for shapes, k in zip(found, active, strict=True)), strict=True)
    )
    optimizer = OPTIMIZERS[recipe.optimizer]
    update = sum(optimizer.flops(shape) for shapes in found for shape in shapes.matrices)
    update += sum(2 * rows * columns for shapes in found for rows, columns in _projected(recipe, shapes))
    return Products(forward, dense, gathered, update)


def _projected(recipe: Recipe, shapes: Shapes) -> list[Shape]:
    """The matrices that are multiplied with their gradients, entry by entry, to hold norms."""
    if recipe.decoder_norm == "free":
        return []
    return [shapes.decoder] if recipe.decoder_norm == "unit" else [shapes.decoder, *shapes.decoder_mlp]


def _coder(recipe: Recipe, shapes: Shapes, k: int) -> tuple[float, float, float]:
    """One coder with k active latents in the end, per token: pre-activations, other dense products, gathered."""
    active = k * mean_active(recipe) / recipe.k
    dense: float = sum(2 * 3 * a * b for a, b in (*shapes.encoder_mlp, *shapes.decoder_mlp))
    dense -= 2 * shapes.encoder_mlp[0][0] * shapes.encoder_mlp[0][1] if shapes.encoder_mlp and shapes.first else 0
    gathered = shapes.encoded(active) + shapes.decoded(active) - shapes.decoded(0)
    for term in terms_of(recipe):
        flops = term.flops(recipe, shapes, active)
        if term.every_pre_activation:
            dense += flops
        else:
            gathered += flops
    return shapes.product, dense, gathered


def mean_active(recipe: Recipe) -> float:
    """k, averaged over the steps of a k that falls from `k_start`."""
    return recipe.k + (recipe.k_start - recipe.k) * recipe.k_decay / 2 if recipe.k_start else recipe.k
