"""How long a training step takes on a device that was never tried, from a recipe alone.

A step is a sum of a few kinds of work, each with a speed of its own. The speeds of a CPU core and of a GPU are
fitted to measured steps (docs/benchmarks.md, docs/gpu.md), and tests/study/test_step_time.py holds them against
these. What an unmeasured recipe takes on a known device is within about a quarter of this; another CPU can be
twice as fast or slow, so `harness plan --measure` or cells that are done replace it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.study.catalogue import OPTIMIZERS, SPARSIFIERS, terms_of
from harness.study.flops import coders, products
from harness.study.recipe import Recipe

FORWARD = 0.6  # of a step: coding a batch without training on it. A step is more forward than backward (gathered)


class StepWork(NamedTuple):
    """One step on a whole batch, by the kinds of work that take time."""

    shortlisted: float  # FLOPs of pre-activations that a rounded product may find
    dense: float  # FLOPs of other products of whole matrices
    gathered: float  # FLOPs with rows of active latents
    update: float  # FLOPs of the optimizer
    selected: float  # pre-activations that the k largest are selected from
    looked_at: float  # pre-activations that are read again, by a penalty or another selection
    parameters: float
    rows: float  # numbers of the reconstructions of all coders
    coders: float


def step_work(recipe: Recipe, width: int, target_width: int | None = None) -> StepWork:
    """Of a training step on activations of `width` dimensions; for the arguments see `cost`."""
    found, work = coders(recipe, width, target_width), products(recipe, width, target_width)
    sparsifier = SPARSIFIERS[recipe.sparsifier]
    penalised = any(term.every_pre_activation for term in terms_of(recipe))
    short = sparsifier.shortlisted and not penalised
    again = 4 * work.pre_activations if sparsifier.full_products else 0  # decoding, and the gradients of it all
    entries = recipe.batch * sum(shapes.latents for shapes in found)
    return StepWork(
        shortlisted=work.pre_activations if short else 0,
        dense=work.dense + again + (0 if short else work.pre_activations),
        gathered=work.gathered,
        update=work.update,
        selected=entries,
        looked_at=0 if short else entries,
        parameters=sum(a * b for shapes in found for a, b in shapes.matrices),
        rows=recipe.batch * len(found) * (width if target_width is None else target_width),
        coders=len(found),
    )


class StepSpeed(NamedTuple):
    """Seconds for one unit of each kind of work, in the order of `StepWork`; `step`: what any step takes."""

    per_unit: StepWork
    step: float

    def seconds(self, work: StepWork) -> float:
        """Of a step."""
        return self.step + sum(each * amount for each, amount in zip(self.per_unit, work, strict=True))


# One core of an AMD EPYC (Zen 5: AVX512-VNNI) with the compiled kernels, another worker on the core beside it;
# fitted to 18 recipes at widths of 128 to 768. Dense products: 84 GFLOP/s; shortlisted ones: 400, in int16.
CPU_CORE = StepSpeed(
    StepWork(
        shortlisted=2.5e-12,
        dense=1.2e-11,
        gathered=7.7e-11,
        update=1.2e-11,
        selected=2.1e-10,
        looked_at=5e-10,
        parameters=1.6e-9,
        rows=4.8e-9,
        coders=0.0,
    ),
    step=6e-4,
)


@dataclass(frozen=True)
class Device:
    """A GPU by its data sheet: dense products without sparsity in FLOP/s, memory in bytes and bytes/s."""

    label: str
    products: dict[str, float]  # by the recipe's precision
    bandwidth: float
    memory: int
    relative: float | None = None  # time of a step to that on an H200, where that was measured

    def seconds(self, recipe: Recipe, width: int, target_width: int | None = None) -> float:
        """Of a training step; for the arguments see `step_work`."""
        if self.relative is not None:
            return self.relative * DEVICES[MEASURED].seconds(recipe, width, target_width)
        return self._step_speed(recipe.precision).seconds(_work_on_a_gpu(recipe, width, target_width))

    def _step_speed(self, precision: str) -> StepSpeed:
        product = 1 / (ACHIEVED * self.products[precision])
        rough = "bfloat16" if precision == "float32" else precision  # float16 is as fast
        byte = 1 / self.bandwidth
        return StepSpeed(
            StepWork(
                shortlisted=1 / (ACHIEVED * self.products[rough]),
                dense=product,
                gathered=GATHERED_BYTES * byte,
                update=1 / (ACHIEVED_UPDATE * self.products["bfloat16"]),
                selected=SELECTED_BYTES * byte,
                looked_at=LOOKED_AT_BYTES * byte,
                parameters=PARAMETER_BYTES * byte,
                rows=ROW_BYTES * byte,
                coders=CODER_SECONDS,
            ),
            step=0.0,
        )


def _work_on_a_gpu(recipe: Recipe, width: int, target_width: int | None) -> StepWork:
    """As `step_work`, but that Muon's iterations are on Gram matrices, and that aux-k takes a second selection and
    four dense products over the dead."""
    work = step_work(replace(recipe, aux_k=None), width, target_width)
    if OPTIMIZERS[recipe.optimizer].fused:
        work = work._replace(update=GRAM * work.update)
    if not recipe.aux_k:
        return work
    every = products(recipe, width, target_width).pre_activations
    return work._replace(
        shortlisted=0.0,
        dense=work.dense + work.shortlisted + 4 * DEAD * every / ACHIEVED_BY_TRITON,
        selected=2 * work.selected,
    )


# Fitted to the steps that docs/gpu.md lists, of this GPU: what part of the data sheet's products is reached, and
# what memory traffic the other kinds of work come to at the data sheet's bandwidth. Assumed of the others.
MEASURED = "h200"
ACHIEVED = 0.76
ACHIEVED_UPDATE = 0.24  # Muon's small products
GATHERED_BYTES = 1.7  # for each FLOP with an active latent's row
SELECTED_BYTES = 4.5  # for each pre-activation
LOOKED_AT_BYTES = 20.0
PARAMETER_BYTES = 42.0  # weight, gradient and moments, read and written
ROW_BYTES = 64.0
CODER_SECONDS = 2.7e-4  # kernels too small to fill the GPU
GRAM = 0.25  # of Muon's FLOPs, by what its step takes
DEAD = 0.25  # of all latents, where aux-k is planned
ACHIEVED_BY_TRITON = 0.55  # of cuBLAS's products: 410 to 470 TFLOP/s on an H100 (docs/gpu_h100.md)

DEVICES = {
    "h200": Device("NVIDIA H200", {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12}, 4.8e12, 141 * 10**9),
    "h100": Device(
        "NVIDIA H100 (SXM)",
        {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
        3.35e12,
        80 * 10**9,
        relative=1.1,  # of seven kinds, by one code on both: 1.04 to 1.15 (docs/gpu_h100.md)
    ),
    "a100": Device(
        "NVIDIA A100 80GB (SXM)", {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12}, 2.04e12, 80 * 10**9
    ),
}


def known_device(name: str) -> str | None:
    """The name in `DEVICES` of a GPU with this product name; None for others, and for a part of one (MIG)."""
    if " MIG " in name:
        return None
    return next((key for key in DEVICES if re.search(rf"\b{key}\b", name, re.IGNORECASE)), None)
