"""What decides a cell's bits: its recipe as far as that matters, the activations, and the code that it reaches.

Nothing else is part of its identity. So a setting that does nothing under the others does not make another cell,
and neither does code that this recipe does not reach: another optimizer's, measuring, scheduling, reporting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from harness.fingerprint import definitions, fingerprint
from harness.study.catalogue import (
    OPTIMIZERS,
    SPARSIFIERS,
    OptimizerSpec,
    SparsifierSpec,
    Spec,
    members,
    members_of,
    parse_layers,
    parse_shares,
    terms_of,
)
from harness.study.recipe import Recipe

# What training asks the catalogue of members
FLAGS = ("schedule_free", "fused", "calibrated", "every_pre_activation")
Roots = tuple[str, ...]  # definitions, as in harness.fingerprint

# What trains every cell, and measures its curve and its score, which cannot be measured again; the members that a
# recipe uses come on top, and all that these reach.
CORE = (
    "harness.training.cell:Cell.step",
    "harness.training.cell:Cell.state",
    "harness.training.cell:Cell.load_state",
    "harness.training.cohort:Cohort.train",
    "harness.training.data:Batches",
    "harness.training.data:Data.read",
    "harness.training.data:Data.centred",
    "harness.training.cell:Cell.trained_sae",
    "harness.training.trainer:curve_point",
    "harness.training.trainer:score",
)


def _kaiming(recipe: Recipe) -> bool:
    return recipe.initial_weights == "kaiming"


def _per_dimension(recipe: Recipe) -> bool:
    return recipe.decoder_norm == "unit_per_dimension"


def _resamples(recipe: Recipe) -> bool:
    return bool(recipe.resample)


def _calibrated(recipe: Recipe) -> bool:
    return SPARSIFIERS[recipe.sparsifier].calibrated


# Code that only some recipes run. What the core names of it is followed for these alone.
ONLY_IF: dict[str, Callable[[Recipe], bool]] = {
    "harness.sae.calibration:calibrate": _calibrated,
    "harness.sae.dimension_norm:normalise_dimensions": lambda recipe: _kaiming(recipe) or _per_dimension(recipe),
    "harness.sae.dimension_norm:project_dimensions": _per_dimension,
    "harness.sae.dimension_norm:start_kaiming": _kaiming,
    "harness.training.cell:Cell.calibrate": _calibrated,
    "harness.training.data:Data.training": _calibrated,
    "harness.training.trainer:CALIBRATION_TOKENS": _calibrated,
    "harness.training.resampling:resample": _resamples,
    "harness.training.resampling:sources": _resamples,
}
# What decides no weight by being named: errors, what is measured, values that recipes state, and tables, of which
# the entries that a recipe uses count.
CUT = (
    "harness.errors",
    "harness.study.catalogue.architectures",
    "harness.study.catalogue.inputs",
    "harness.study.catalogue.optimizers:OPTIMIZERS",
    "harness.study.catalogue.sparsifiers",
    "harness.study.catalogue.terms",
    "harness.study.catalogue:terms_of",
    "harness.study.recipe",
    "harness.training.metrics:EVALUATION_BATCH",
    "harness.training.metrics:HeldOut",
)


def cell_id(recipe: Recipe, source: str) -> str:
    """12 hex digits that stand for everything a cell's weights depend on. source: the activations' fingerprint."""
    return fingerprint({"recipe": decisive(recipe), "source": source, "code": code_of(recipe)})[:12]


def decisive(recipe: Recipe) -> dict[str, Any]:
    """What the recipe trains, however it is written: two recipes for which it is equal train the same weights.

    `sparse 1` is `none`, a rate that is left out is the optimizer's default, and a setting that does nothing is
    not there. Shares of the training are in steps.
    """
    every = recipe.resample and max(1, recipe.resample // recipe.batch)
    meaning = {
        "layers": asdict(parse_layers(recipe.layers)),
        "prefixes": parse_shares(recipe.prefixes),
        "k_start": recipe.k_start or recipe.k,
        "lr": recipe.peak_lr,
        "tokens": recipe.steps * recipe.batch,
        "warmup": max(1.0, recipe.warmup * recipe.steps),  # steps
        "decay": max(1.0, recipe.decay * recipe.steps),
        "resample": every if every and 2 * every <= recipe.steps else None,
    }
    left_out = inert(recipe)
    return {name: value for name, value in (asdict(recipe) | meaning).items() if name not in left_out}


def inert(recipe: Recipe) -> dict[str, str]:
    """The recipe fields that do nothing beside its others -> the field that makes it so, as `optimizer`."""
    used = {name for member in members_of(recipe) for name in member.reads}
    found = {name: _switch(recipe, name, m) for m in members() for name in m.reads if name not in used}
    if OPTIMIZERS[recipe.optimizer].schedule_free:
        found["decay"] = "optimizer"
    if recipe.k_start in (None, recipe.k):
        found["k_decay"] = "k_start"
    if not SPARSIFIERS[recipe.sparsifier].holds_k:
        found |= dict.fromkeys(("k", "k_start", "k_decay"), "sparsifier")
    return found


def _switch(recipe: Recipe, name: str, member: Spec) -> str:
    """The field by which this recipe leaves out a member that reads `name`."""
    if isinstance(member, OptimizerSpec):
        return "optimizer"
    if isinstance(member, SparsifierSpec):
        return "sparsifier"
    return next((other for other in member.reads if other != name and not getattr(recipe, other)), name)


def roots(recipe: Recipe) -> Roots:
    """The definitions that train it; what they reach is its code."""
    more = [name for name, runs in ONLY_IF.items() if runs(recipe)]
    if (fused := OPTIMIZERS[recipe.optimizer].fused) is not None:
        more.append(fused)
    return (*CORE, *more, *sorted(member.build for member in members_of(recipe)))


def code_of(recipe: Recipe) -> str:
    """The fingerprint of the code that trains it, and of what the catalogue says of its members."""
    said = [[m.build, *(getattr(m, name, None) for name in FLAGS)] for m in members_of(recipe)]
    weights = [term.weight(recipe) for term in terms_of(recipe)]
    return fingerprint([_code(roots(recipe)), said, weights])


@cache
def _code(roots: Roots) -> str:
    return fingerprint(reached(roots))


def reached(roots: Roots) -> Mapping[str, str]:
    """The definitions that these reach -> hash of what each says. Raises ValueError if a root is missing."""
    return definitions(roots, (*CUT, *ONLY_IF))


def other_code(roots: Roots, theirs: Mapping[str, str]) -> str | None:
    """What of the code that these roots reach differs from that of another machine, in words, or None."""
    try:
        ours = reached(roots)
    except ValueError as missing:
        return str(missing)
    other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not other:
        return None
    more = f" and {len(other) - 3} more" if len(other) > 3 else ""
    return f"{', '.join(other[:3])}{more} {'differs' if len(other) == 1 else 'differ'}"
