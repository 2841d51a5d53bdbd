"""The floating-point operations of a training step, from a recipe alone: the same on every machine.

Counted are products of matrices, and of rows with the active latents' rows, 2 for each multiply-add. What is done
entry by entry is left out: norms, activations, biases, moments of an optimizer. tests/study/test_flops.py holds it
against the products of real steps. Nobody knows before which latents will fire: k of them count as active whatever
the sparsifier, `aux_k` as dead, and a prefix as having its share of the active ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.sae.sizes import apportion, layer_widths
from harness.study.recipe import Layers, Recipe, parse_shares

SOAP_DIMENSION = 512  # longer sides of a matrix are not preconditioned (harness/training/optimizers.py)
SOAP_EVERY = 10  # steps between two of its eigenbases
Shape = tuple[int, int]


@dataclass(frozen=True)
class Shapes:
    """The matrices of one coder. before, behind: of its added layers, (width in, width out)."""

    before: Sequence[Shape]
    behind: Sequence[Shape]
    encoder: Shape  # latents, width at the sparse layer
    decoder: Shape  # latents, width behind it
    first: bool  # whether its input is the data, which needs no gradient

    @property
    def matrices(self) -> list[Shape]:
        return [*self.before, *self.behind, self.encoder, self.decoder]


def coders(recipe: Recipe, width: int) -> list[Shapes]:
    """The coders of an SAE on activations of `width` dimensions."""
    layers = Layers.parse(recipe.layers)
    before = [width, *layer_widths(width, layers.encoder)]
    behind = [*layer_widths(width, layers.decoder), width]  # without added layers: the width alone, no matrix
    sizes = apportion(recipe.latents, layers.stack)
    return [
        Shapes(list(pairwise(before)), list(pairwise(behind)), (n, before[-1]), (n, behind[0]), number == 0)
        for number, n in enumerate(sizes)
    ]


def flops_per_token(recipe: Recipe, width: int) -> int:
    """Of a training step, its share of the optimizer's products included."""
    found = coders(recipe, width)
    active = apportion(recipe.k, Layers.parse(recipe.layers).stack)
    steps = [_coder(recipe, shapes, k) for shapes, k in zip(found, active, strict=True)]
    rule = OPTIMIZERS.get(recipe.optimizer)
    update = sum(rule(shape) for shapes in found for shape in shapes.matrices) if rule else 0
    if recipe.decoder_norm == "unit":  # each row of the decoder times that of its gradient
        update += sum(2 * shapes.decoder[0] * shapes.decoder[1] for shapes in found)
    return round(sum(steps) + update / recipe.batch)


def _coder(recipe: Recipe, shapes: Shapes, k: int) -> float:
    """Forward and backward pass of one coder with k active latents in the end."""
    active = k * mean_active(recipe) / recipe.k
    # The input needs a gradient if something trained is before it: added layers, or coders.
    sides = 1 if shapes.first and not shapes.before else 2
    product, row = 2 * shapes.encoder[0] * shapes.encoder[1], 2 * shapes.encoder[1]
    total = product + active * sides * row + _decoded(shapes, active)
    total += sum(2 * 3 * a * b for a, b in shapes.before)
    total -= 2 * shapes.before[0][0] * shapes.before[0][1] if shapes.before and shapes.first else 0
    if recipe.penalty and recipe.penalty_on == "relu":
        total += sides * product  # backward, through every positive pre-activation
    if recipe.penalty and recipe.penalty_on == "linear":
        total += (1 + sides) * product / recipe.batch  # of the mean token
    if recipe.aux_k and recipe.aux_weight:
        dead = min(recipe.aux_k, shapes.encoder[0])
        total += dead * sides * row + _decoded(shapes, dead)
    return total + sum(_decoded(shapes, share * active) for share in parse_shares(recipe.prefixes))


def _decoded(shapes: Shapes, active: float) -> float:
    """A reconstruction from so many latents: forward, and the gradients of values and rows."""
    return 2 * 3 * (active * shapes.decoder[1] + sum(a * b for a, b in shapes.behind))


def mean_active(recipe: Recipe) -> float:
    """k, averaged over the steps of a k that falls from `k_start`."""
    return recipe.k + (recipe.k_start - recipe.k) * recipe.k_decay / 2 if recipe.k_start else recipe.k


def orthogonalisation(shape: Shape) -> float:
    """Muon: five Newton-Schulz iterations of three products each."""
    small, large = sorted(shape)
    return 5 * (4 * small * small * large + 2 * small**3)


def preconditioning(shape: Shape) -> float:
    """SOAP, for each side that is preconditioned: three rotations, an outer product, and now and then an
    eigenbasis by a product and a QR decomposition (4/3 d^3 for R, as much for Q)."""
    sides = [side for side in shape if side <= SOAP_DIMENSION]
    return sum(4 * 2 * shape[0] * shape[1] * d + (2 + 8 / 3) * d**3 / SOAP_EVERY for d in sides)


OPTIMIZERS = {"muon": orthogonalisation, "soap": preconditioning}
