"""The members of the model family, one spec each: optimizers, sparsifiers, inputs, loss terms, architectures.

Standard library only: recipes and plans read it where there is no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.study.catalogue.architectures import ARCHITECTURES, architecture, parse_layers
from harness.study.catalogue.inputs import INPUTS
from harness.study.catalogue.layers import Layers
from harness.study.catalogue.optimizers import OPTIMIZERS
from harness.study.catalogue.sparsifiers import SPARSIFIERS
from harness.study.catalogue.specs import (
    ArchitectureSpec,
    InputsSpec,
    OptimizerSpec,
    SparsifierSpec,
    Spec,
    TermSpec,
)
from harness.study.catalogue.terms import OTHER_TERMS, PENALTIES, parse_shares, terms

if TYPE_CHECKING:
    from harness.study.recipe import Recipe

__all__ = [
    "ARCHITECTURES",
    "INPUTS",
    "OPTIMIZERS",
    "OTHER_TERMS",
    "PENALTIES",
    "SPARSIFIERS",
    "ArchitectureSpec",
    "InputsSpec",
    "Layers",
    "OptimizerSpec",
    "SparsifierSpec",
    "Spec",
    "TermSpec",
    "architecture",
    "members",
    "members_of",
    "parse_layers",
    "parse_shares",
    "terms_of",
]


def members() -> list[Spec]:
    """All of them, of every kind."""
    return [*OPTIMIZERS.values(), *SPARSIFIERS.values(), *INPUTS.values(), *terms(), *ARCHITECTURES.values()]


def terms_of(recipe: Recipe) -> list[TermSpec]:
    """The terms that the loss of this recipe has besides the error."""
    return [term for term in terms() if term.weight(recipe)]


def members_of(recipe: Recipe) -> list[Spec]:
    """Those that this recipe trains with."""
    chosen: list[Spec] = [
        OPTIMIZERS[recipe.optimizer],
        SPARSIFIERS[recipe.sparsifier],
        INPUTS[recipe.inputs],
        architecture(recipe.layers),
    ]
    return chosen + terms_of(recipe)
