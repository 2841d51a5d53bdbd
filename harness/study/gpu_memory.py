"""The memory that training takes on a GPU, worked out from what a step allocates there.

A cell's step is one CUDA graph (harness/training/graph.py). What the graph needs in passing stays reserved for the
next replay and can be used by other graphs alone, so that what is done beside it (evaluation, resampling, an
update that is not part of it) adds up with it. Checkpoints are copied to the host and take nothing here.

The factors here and in the catalogue (`gpu_memory`) are counts of the tensors that are alive at the peak.
tests/study/test_gpu_memory.py holds them against the allocations of real steps, and against the peaks in
docs/gpu.md. All sizes are in bytes. Shape letters: B tokens, N latents, D width, A active entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.sae.sizes import layer_widths
from harness.study.catalogue import OPTIMIZERS, SPARSIFIERS, parse_layers, terms_of
from harness.study.catalogue.shapes import Shapes
from harness.study.flops import coders
from harness.study.memory import EVALUATED, FLOAT, KnownFeatures, Memory
from harness.study.recipe import Recipe

ROUNDED = 2  # of a number of encoder and decoder that products in bfloat16 read
ROUGH = 2  # of a pre-activation, and of a number of an encoder, in the float16 that a shortlist is made of
LEAST_WORK, LEAST_LATENTS = 2**31, 64  # of a product, of each active latent: with fewer there is no shortlist
ENTRY = 48  # of an active entry: value, gradient and latent, and sorted by latent its place, token and latent
PIECES = 2 * FLOAT / 64  # of a dimension and active entry: sums of 64 tokens at a time (harness/sae/gpu: PIECE)
ROWS = 2.5  # rows [B, D] in float32 of each coder: what it reads and reconstructs, and a copy in bfloat16
ADDED = 2.5  # more of them where several reconstructions add up, whose gradients are alive at the same time
HIDDEN = 2  # numbers in float32 of each unit of an added layer and token
BATCHES = 2  # of a worker: the one that is trained on, and the next, or both halves of it in float16
WORKSPACES = 2 * 2**25  # cuBLAS's on an H100 or H200, of the streams of steps and of captures, once a process
CALIBRATION = 32_768  # tokens that thresholds are set on (harness/training/trainer.py)


def gpu_memory(
    recipe: Recipe,
    width: int,
    parameters: int,
    latents: int,
    known: KnownFeatures | None = None,
    target_width: int | None = None,
) -> Memory:
    """Of a cell on a GPU that has the kernels; for the arguments see `harness.study.memory.memory`."""
    found, optimizer = coders(recipe, width, target_width), OPTIMIZERS[recipe.optimizer]
    forward, back, coded = _per_token(recipe, width, found, target_width)
    moments, own = optimizer.gpu_memory or (optimizer.kept, optimizer.passing)
    weights, measured = FLOAT * parameters, FLOAT * parameters + EVALUATED * coded  # of a copy of the weights
    fused = optimizer.fused and recipe.decoder_norm != "unit_per_dimension"  # then the update is in the graph
    batch = FLOAT * recipe.batch * (width + (target_width or 0))
    kept = weights * (1 + moments)
    gradients = 0 if fused else weights  # which the graph leaves to the optimizer
    if fused and recipe.precision == "bfloat16":
        kept += ROUNDED * sum(a * b for shapes in found for a, b in (shapes.encoder, shapes.decoder))
    updated, update = (weights * own, 0.0) if fused else (0.0, weights * (own - 1))
    if _shortlisted(recipe, found, recipe.batch, recipe.precision):
        forward += ROUGH * max(a * b for shapes in found for a, b in [shapes.encoder]) / recipe.batch
    graph = max(recipe.batch * forward, recipe.batch * back + weights, updated) - gradients
    again = graph if recipe.resample or recipe.k_start else 0.0  # by steps that are no graph, or not yet one
    calibrated = 2 * FLOAT * CALIBRATION * width if SPARSIFIERS[recipe.sparsifier].calibrated else 0
    compared = known.bytes(latents, recipe.k, measured) if known else 0.0
    kept += gradients
    passing = BATCHES * batch + max(update, again, measured + calibrated, compared)
    step = kept + BATCHES * batch + max(graph, update)
    return Memory(round(kept), round(passing), round(graph), round(step))


class _PerToken(NamedTuple):
    """What is held for each token: by a step on the way forward and back, and by coding one for a measurement."""

    forward: float
    back: float
    coded: float


def _per_token(recipe: Recipe, width: int, found: Sequence[Shapes], target_width: int | None) -> _PerToken:
    layers, terms = parse_layers(recipe.layers), terms_of(recipe)
    out = width if target_width is None else target_width
    hidden = sum((*layer_widths(width, layers.encoder), *layer_widths(out, layers.decoder)))
    active = max(recipe.k, recipe.k_start or 0)
    reconstructions = sum(term.reconstructions(recipe) for term in terms)
    several = layers.depth > 1 or reconstructions
    longest = max(max(shapes.encoder[1], shapes.decoder[1]) for shapes in found)
    row = FLOAT * (out * ROWS + hidden * HIDDEN) * layers.depth
    rows = row + FLOAT * out * reconstructions * layers.depth
    latents = sum(shapes.latents for shapes in found)
    size = 2 if recipe.precision == "bfloat16" else FLOAT
    *selecting, measuring = SPARSIFIERS[recipe.sparsifier].gpu_memory
    # What terms make of pre-activations is there when what the sparsifier needed for it is gone.
    forward, back = (
        size * latents * max(own, 1 + sum(term.gpu_memory[way] for term in terms))
        for way, own in enumerate(selecting)
    )
    coded = FLOAT * latents * measuring
    first, rough = rows, ROUGH * max(shapes.latents for shapes in found)
    if _shortlisted(recipe, found, recipe.batch, recipe.precision):
        forward, back, first = rough, 0.0, 0.0  # reconstructions come when it is gone
    if _shortlisted(recipe, found, EVALUATED, "float32"):
        coded = rough
    return _PerToken(
        forward=forward + active * ENTRY + first,
        back=back + active * (ENTRY + longest * PIECES) + rows + FLOAT * out * (ADDED if several else 0),
        coded=coded + active * ENTRY + row,
    )


def _shortlisted(recipe: Recipe, found: Sequence[Shapes], tokens: int, precision: str) -> bool:
    """Whether a product in float16 finds the k largest, so that no pre-activation is kept.

    Source: `harness.sae.gpu.shortlist.pays`.
    """
    if precision != "float32" or not SPARSIFIERS[recipe.sparsifier].shortlisted:
        return False
    if any(term.gpu_memory != (0.0, 0.0) for term in terms_of(recipe)):  # it looks at all of them
        return False
    work = min(tokens * a * b for shapes in found for a, b in [shapes.encoder])
    return work >= LEAST_WORK and recipe.latents >= LEAST_LATENTS * recipe.k
