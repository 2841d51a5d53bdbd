"""The terms of the loss besides the error, in the order in which they are added to it.

Adding a penalty, which a study asks for by `penalty_on` and weighs by `penalty`, is a `BatchStatistic` like those
of harness/sae/penalties.py, and its entry in `PENALTIES`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.errors import SettingError
from harness.study.catalogue.shapes import Shapes
from harness.study.catalogue.sparsifiers import SPARSIFIERS
from harness.study.catalogue.specs import TermSpec, registry

if TYPE_CHECKING:
    from harness.study.recipe import Recipe


def parse_shares(text: str) -> tuple[float, ...]:
    """Rising shares between 0 and 1, as in `0.125-0.5`; `none` for none. Raises SettingError."""
    if text == "none":
        return ()
    if re.fullmatch(r"0?\.\d+(-0?\.\d+)*", text):
        shares = tuple(float(share) for share in text.split("-"))
        if shares[0] > 0 and all(low < high for low, high in pairwise(shares)):
            return shares
    raise SettingError("prefixes", "'none' or rising shares of the latents such as '0.125-0.5'", text)


def penalty(name: str, **more: Any) -> TermSpec:
    """One that `penalty_on` names."""

    def weight(recipe: Recipe) -> float:
        return recipe.penalty if recipe.penalty_on == name else 0.0

    return TermSpec(name=name, weight=weight, reads=("penalty", "penalty_on"), **more)


def _relu_flops(recipe: Recipe, shapes: Shapes, active: float) -> float:
    return shapes.sides * shapes.product  # backward, through every positive pre-activation


def _linear_flops(recipe: Recipe, shapes: Shapes, active: float) -> float:
    return (1 + shapes.sides) * shapes.product / recipe.batch  # of the mean token


def _aux_k_flops(recipe: Recipe, shapes: Shapes, active: float) -> float:
    dead = min(recipe.aux_k or 0, shapes.latents)
    return shapes.encoded(dead) + shapes.decoded(dead)


def _prefix_flops(recipe: Recipe, shapes: Shapes, active: float) -> float:
    return sum(shapes.decoded(share * active) for share in parse_shares(recipe.prefixes))


def _sparsity(recipe: Recipe) -> float:
    charged = "sparsity" in SPARSIFIERS[recipe.sparsifier].reads
    return recipe.sparsity or 0.0 if charged else 0.0


def _aux_weight(recipe: Recipe) -> float:
    return recipe.aux_weight if recipe.aux_k else 0.0


PENALTIES = registry(
    [
        penalty(
            "relu",
            doc="spread over latents of the batch means of pre-activations after ReLU",
            build="harness.sae.penalties:relu_spread",
            every_pre_activation=True,
            memory=1.0,
            gpu_memory=(0.0, 1.0),  # their gradient
            flops=_relu_flops,
        ),
        penalty(
            "linear",
            doc="the same before ReLU",
            build="harness.sae.penalties:linear_spread",
            flops=_linear_flops,
        ),
        penalty(
            "relu_at_unit_norm",
            doc="as `relu`, its weight as if tokens had norm 1 rather than the square root of the width",
            build="harness.sae.penalties:relu_spread_at_unit_norm",
            every_pre_activation=True,
            memory=1.0,
            gpu_memory=(0.0, 1.0),  # their gradient
            flops=_relu_flops,
        ),
        penalty(
            "linear_at_unit_norm",
            doc="as `linear`, its weight as if tokens had norm 1 rather than the square root of the width",
            build="harness.sae.penalties:linear_spread_at_unit_norm",
            flops=_linear_flops,
        ),
    ]
)


OTHER_TERMS = registry(
    [
        TermSpec(
            name="sparsity",
            doc="what the sparsifier charges for activity",
            build="harness.sae.penalties:activity",
            weight=_sparsity,
        ),
        TermSpec(
            name="aux_k",
            doc="FVU of what the strongest dead latents make of the error",
            build="harness.training.loss:aux_k",
            weight=_aux_weight,
            reads=("aux_k", "aux_weight"),
            memory=1.5,
            gpu_memory=(2.0, 2.0),  # codes of the dead, dense, and what becomes of them
            flops=_aux_k_flops,
        ),
        TermSpec(
            name="prefixes",
            doc="errors of what the first latents reconstruct alone (matryoshka)",
            build="harness.training.loss:prefixes",
            reads=("prefixes",),
            weight=lambda recipe: 1.0 if parse_shares(recipe.prefixes) else 0.0,
            reconstructions=lambda recipe: len(parse_shares(recipe.prefixes)),
            flops=_prefix_flops,
        ),
    ]
)


def terms() -> list[TermSpec]:
    """All of them, in the order in which they are added."""
    return [*PENALTIES.values(), *OTHER_TERMS.values()]
