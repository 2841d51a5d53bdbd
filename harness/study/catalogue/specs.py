"""What there is to know of a member of the model family: an optimizer, a sparsifier, a loss term, an architecture.

A member is its code, which is imported when it is used, and one spec. The names allowed in a study file, default
learning rates, `harness plan`, memory, FLOPs, the tables of docs/extending.md and the conformance tests follow
from the specs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from harness.study.catalogue.layers import Layers
from harness.study.catalogue.shapes import Shape, Shapes

if TYPE_CHECKING:
    from harness.study.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What all of them have."""

    name: str  # in study files
    doc: str  # one line
    build: str  # "module:name" of its code
    # Recipe fields that matter only to recipes that use it, or another member that reads them, its own switch
    # included. Elsewhere they are no part of a cell's identity (harness/study/identity.py).
    reads: tuple[str, ...] = ()

    def load(self) -> Any:
        """Its code. Imports the module, and with it torch."""
        return _load(self.build)


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(Spec):
    """build: a function (parameters with their roles, recipe) -> optimizers that share them among each other."""

    default_lr: float | None  # peak rate for 2^14 latents; others get it times sqrt(2^14 / latents)
    kept: float  # numbers per parameter kept from step to step, besides the weight
    passing: float  # numbers per parameter during its step, besides weight and gradient
    gpu_memory: tuple[float, float] | None = None  # both on a GPU, where they are others there
    flops: Callable[[Shape], float] = lambda shape: 0  # of the matrix products in a step, for one matrix
    schedule_free: bool = False  # averages weights itself instead of lowering its learning rate
    fused: str | None = None  # "module:name" of what takes its step by a GPU's kernels: a kind of `FusedAdam`

    def load_fused(self) -> Any:
        """What takes its step by a GPU's kernels, or None."""
        return None if self.fused is None else _load(self.fused)


@dataclass(frozen=True, kw_only=True)
class InputsSpec(Spec):
    """build: a subclass of `harness.training.inputs.Inputs`."""

    per_token: bool = False  # whether the way back takes numbers of each token, which its latents do not hold


@dataclass(frozen=True, kw_only=True)
class SparsifierSpec(Spec):
    """build: a class (k, latents, standard deviation of a pre-activation at initialisation) -> Sparsifier.

    One that reads `sparsity` adds a cost of its activity to the loss, with that weight, and needs it.
    """

    memory: float  # numbers for each pre-activation: itself, and what selects from it and remembers the choice
    # The same on a GPU: at most on the way forward and on the way back, in the precision of its products; and when
    # a token is only measured, in float32
    gpu_memory: tuple[float, float, float] = (1.0, 1.0, 1.0)
    parameters: int = 0  # trained numbers for each latent, besides encoder, bias and decoder
    holds_k: bool = True  # whether k latents are active per token, at least on average; if not, it does not read k
    calibrated: bool = False  # whether thresholds are set after training (harness/sae/calibration.py)
    needs_unit_norm: bool = False  # whether its cost has no minimum where decoder rows are free
    # How a step is computed, for estimates of its time. shortlisted: a rounded product may find the candidates.
    # full_products: values and gradients are products over all latents, since too many are active to gather them.
    shortlisted: bool = False
    full_products: bool = False


@dataclass(frozen=True, kw_only=True)
class TermSpec(Spec):
    """A term of the loss besides the error.

    build: a `BatchStatistic`, or what makes it (harness/training/loss.py).
    """

    weight: Callable[[Recipe], float]  # 0: this recipe has no such term
    every_pre_activation: bool = False  # whether it looks at all of them, so that a shortlist saves nothing
    memory: float = 0.0  # numbers for each pre-activation
    gpu_memory: tuple[float, float] = (0.0, 0.0)  # the same on a GPU, forward and back, in its products' precision
    reconstructions: Callable[[Recipe], int] = lambda recipe: 0  # of each coder, besides the one that all have
    flops: Callable[[Recipe, Shapes, float], float] = lambda recipe, shapes, active: 0
    # per token, of one coder with so many active latents: matrix products, forward and backward


@dataclass(frozen=True, kw_only=True)
class ArchitectureSpec(Spec):
    """What can be written in `layers`. build: a function of sizes and `Layers` -> SAE, as `build_sae`."""

    notation: str  # for people
    examples: tuple[str, ...]  # tested as examples of all others
    parse: Callable[[str], Layers | None]  # what follows the name -> its layers; None: not in this notation


def _load(name: str) -> Any:
    """The object of a "module:name"."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


AnySpec = TypeVar("AnySpec", bound=Spec)


def registry(specs: Iterable[AnySpec]) -> dict[str, AnySpec]:
    """Specs by their names. Raises ValueError for a name that two have."""
    found: dict[str, AnySpec] = {}
    for spec in specs:
        if found.setdefault(spec.name, spec) is not spec:
            raise ValueError(f"two members of one kind are called {spec.name!r}")
    return found
