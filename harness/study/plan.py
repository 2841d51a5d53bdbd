"""What a study would cost, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.study.catalogue import SPARSIFIERS
from harness.study.catalogue.shapes import Shapes
from harness.study.flops import coders, flops_per_token
from harness.study.gpu_memory import gpu_memory
from harness.study.memory import KnownFeatures, Memory, memory
from harness.study.recipe import Recipe
from harness.study.step_time import CPU_CORE, StepWork, step_work


@dataclass(frozen=True)
class Cost:
    """What one cell costs."""

    parameters: int
    flops_per_token: int  # of a training step: harness/study/flops.py
    tokens: int
    memory: Memory
    step: StepWork
    batch: int

    @property
    def bytes(self) -> int:
        """Memory of the cell when it is trained alone."""
        return self.memory.alone

    @property
    def work(self) -> float:
        """A measure of the time that training on all its tokens takes: seconds of a CPU core."""
        return CPU_CORE.seconds(self.step) * self.tokens / self.batch


def cost(
    recipe: Recipe,
    width: int,
    known: KnownFeatures | None = None,
    target_width: int | None = None,
    *,
    on_gpu: bool = False,
) -> Cost:
    """Cost of training `recipe` on activations of `width` dimensions, and of comparing it with known features.

    target_width: of what a transcoder predicts; None for an SAE. on_gpu: whether its memory is a GPU's.
    """
    found = coders(recipe, width, target_width)
    latents = sum(shapes.latents for shapes in found)
    parameters = sum(_parameters(recipe, shapes) for shapes in found)
    needed = (gpu_memory if on_gpu else memory)(recipe, width, parameters, latents, known, target_width)
    flops = flops_per_token(recipe, width, target_width)
    step = step_work(recipe, width, target_width)
    return Cost(parameters, flops, recipe.steps * recipe.batch, needed, step, recipe.batch)


def _parameters(recipe: Recipe, shapes: Shapes) -> int:
    matrices = sum(a * b for a, b in shapes.matrices)
    layers = 3 * sum(out for _, out in shapes.encoder_mlp)  # a bias, a gain and a shift for each unit
    after = shapes.decoder[1] + sum(out for _, out in shapes.decoder_mlp)  # biases; the first of decoded rows
    latents = shapes.latents * (1 + SPARSIFIERS[recipe.sparsifier].parameters)  # biases, and such as thresholds
    return matrices + layers + after + latents
