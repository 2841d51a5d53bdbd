"""What a study would cost, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from harness.sae.sizes import apportion, layer_widths
from harness.study.memory import Memory, memory
from harness.study.recipe import Layers, Recipe

SELECTION_FLOPS = 300  # products that a CPU core does in the time that top-k takes for one entry (docs/log.md)


@dataclass(frozen=True)
class Cost:
    """Of one cell."""

    parameters: int
    flops_per_token: int  # to train: products that sparsity leaves necessary, and the optimizer's own
    tokens: int
    memory: Memory
    selection: int  # entries that top-k looks through, a token

    @property
    def bytes(self) -> int:
        """Memory of the cell when it is trained alone."""
        return self.memory.alone

    @property
    def work(self) -> float:
        """A measure of time: FLOPs, with the selection, which is bound by memory, counted as what it displaces."""
        return (self.flops_per_token + SELECTION_FLOPS * self.selection) * self.tokens


def cost(recipe: Recipe, width: int) -> Cost:
    """What training `recipe` on activations of `width` dimensions takes; norms and biases left out of FLOPs."""
    layers = Layers.parse(recipe.layers)
    before = [width, *layer_widths(width, layers.encoder)]
    behind = layer_widths(width, layers.decoder)
    sparse_in, sparse_out = before[-1], (behind or [width])[0]
    dense = [*pairwise(before), *pairwise([*behind, width])] if behind else list(pairwise(before))
    parameters = flops = total = 0
    matrices: list[tuple[int, int]] = []
    for latents, k in zip(apportion(recipe.latents, layers.stack), apportion(recipe.k, layers.stack), strict=True):
        matrices += [*dense, (latents, sparse_in), (latents, sparse_out)]
        total += latents
        biases = sum(before[1:]) * 3 + latents + sum(behind) + width  # an encoder layer has a gain and a shift too
        if recipe.sparsifier == "jumprelu":
            biases += latents  # thresholds
        parameters += sum(a * b for a, b in matrices[-len(dense) - 2 :]) + biases
        dense_flops = 6 * sum(a * b for a, b in dense)  # forward, and two gradients
        active_flops = 2 * k * (3 * sparse_out + (2 if len(before) > 1 else 1) * sparse_in)
        flops += dense_flops + 2 * latents * sparse_in + active_flops
    if recipe.optimizer == "muon":
        flops += sum(orthogonalisation_flops(*shape) for shape in matrices) // recipe.batch
    needed = memory(recipe, width, parameters, total)
    return Cost(parameters, flops, recipe.steps * recipe.batch, needed, total)


def orthogonalisation_flops(rows: int, columns: int) -> int:
    """Five Newton-Schulz iterations of three products each."""
    small, large = sorted((rows, columns))
    return 5 * (4 * small * small * large + 2 * small**3)
