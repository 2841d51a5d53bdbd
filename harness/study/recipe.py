"""What one cell trains: a flat record of scalars, so that any field can be an axis.

Standard library only: the training core imports it on machines that have nothing but torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_type_hints

from harness.errors import SettingError
from harness.sae.sizes import apportion
from harness.study.catalogue import (
    INPUTS,
    OPTIMIZERS,
    PENALTIES,
    SPARSIFIERS,
    Layers,
    parse_layers,
    parse_shares,
)

Scalar: TypeAlias = bool | int | float | str | None  # None: what the field stands for is off


def setting(
    doc: str,
    default: Any = MISSING,
    names: Iterable[str] | None = None,
    off: str | None = None,
    **bounds: float,
) -> Any:
    """A recipe field: one line of meaning, and what it may be, read by `study.axes`.

    names: a registry of the catalogue whose members are its values. off: what None stands for, where it may be
    None. bounds: pydantic's (gt, ge, lt, le).
    """
    return field(default=default, metadata={"description": doc, "names": names, "off": off, "bounds": bounds})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a cell's result, besides the activations."""

    latents: int = setting("latents of the SAE, over all stacked layers together", ge=2)
    k: int = setting("active latents per token, over all stacked layers together", ge=1)
    tokens: int = setting("tokens trained on", ge=1)
    layers: str = setting("added layers: none, dense W-W, dense_encoder W, sparse DEPTH", "none")
    sparsifier: str = setting("what selects the active latents", "topk", SPARSIFIERS)
    sparsity: float | None = setting(
        "weight of what relu (L1) and jumprelu (L0) charge for activity", None, off="none", gt=0
    )
    prefixes: str = setting("shares of the latents that must reconstruct alone (matryoshka)", "none")
    inputs: str = setting("what the SAE sees of activations", "centred", INPUTS)
    penalty: float = setting("weight of the spread of the pre-activation means", 0.0, ge=0)
    penalty_on: str = setting(
        "which spread: of pre-activations after or before ReLU, and the unit of its weight", "relu", PENALTIES
    )
    aux_k: int | None = setting("dead latents per token that learn from the error", None, off="none", ge=1)
    aux_weight: float = setting("weight of their error, over the variance of the error", 1 / 32, ge=0)
    k_start: int | None = setting(
        "active latents per token at the start, falling linearly to k", None, off="k from the start", ge=1
    )
    k_decay: float = setting("share of the steps in which they fall", 0.5, gt=0, le=1)
    resample: int | None = setting("tokens between two resamplings of dead latents", None, off="never", ge=1)
    decoder_norm: Literal["unit", "unit_per_dimension", "free"] = setting(
        "what decoder weights are held at: unit norm for each latent, for each output dimension of all layers "
        "behind the sparse one (as the original deep-SAE code), or nothing",
        "unit",
    )
    initial_weights: Literal["unit", "kaiming"] = setting(
        "encoder rows of unit norm and the decoder tied to them, or of variance 2 / width and every decoder layer "
        "tied to its encoder layer, at unit norm for each output dimension (as the original deep-SAE code)",
        "unit",
    )
    optimizer: str = setting("rule that updates the weights", "adam", OPTIMIZERS)
    lr: float | None = setting(
        "peak learning rate", None, off="the optimizer's default for this many latents", gt=0
    )
    weight_decay: float = setting("decoupled weight decay of adamw, on matrices", 0.01, ge=0)
    batch: int = setting("tokens per step", 1024, ge=1)
    warmup: float = setting("share of the steps in which the learning rate rises from 0", 0.05, ge=0, le=1)
    decay: float = setting("share of the steps, at the end, in which it falls to 0", 0.2, ge=0, le=1)
    gradient_clip: float | None = setting("largest global norm of the gradient", 1.0, off="any", gt=0)
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "of dense products in training (tf32: on GPUs, elsewhere float32); weights stay float32, with "
        "bfloat16 the active latents' values too",
        "float32",
    )
    dead_window: int = setting("a latent that did not fire in this many tokens is dead", 32_768, ge=1)
    seed: int = setting("seed of the initial weights and of the order of the batches", 0, ge=0)

    def __post_init__(self) -> None:
        """Raises SettingError for the first field that does not fit the others."""
        for name in OFF:
            if getattr(self, name) == 0:
                raise zero_refused(name)
        for name, names in NAMED.items():
            if getattr(self, name) not in names:
                raise SettingError(name, f"one of {', '.join(names)}", getattr(self, name))
        layers = parse_layers(self.layers)
        parse_shares(self.prefixes)
        for name in ("k", "k_start"):
            self._check_active(name, layers)
        sparsifier = SPARSIFIERS[self.sparsifier]
        if "sparsity" in sparsifier.reads and self.sparsity is None:
            raise SettingError(
                "sparsity", f"more than 0, since {self.sparsifier} has no other bound", self.sparsity
            )
        if sparsifier.needs_unit_norm and self.decoder_norm != "unit":
            expected = "'unit', since an L1 term and free norms of latents have no minimum"
            raise SettingError("decoder_norm", expected, self.decoder_norm)
        if self.resample and self.decoder_norm == "unit_per_dimension":
            expected = "'unit' or 'free', since resampled latents start with decoder rows of unit norm"
            raise SettingError("decoder_norm", expected, self.decoder_norm)
        if self.lr is None and OPTIMIZERS[self.optimizer].default_lr is None:
            raise SettingError("lr", f"more than 0, since {self.optimizer} has no default", self.lr)
        if self.batch > self.tokens:
            raise SettingError("batch", f"at most tokens ({self.tokens})", self.batch)
        if self.warmup + self.decay > 1:
            raise SettingError("warmup", f"at most 1 - decay ({1 - self.decay:g})", self.warmup)

    def _check_active(self, name: str, layers: Layers) -> None:
        """Every sparse layer has at least one active latent, and more latents than active ones."""
        active = getattr(self, name)
        if active is None:
            return
        if active >= self.latents:
            raise SettingError(name, f"less than latents ({self.latents})", active)
        each = list(zip(apportion(active, layers.stack), apportion(self.latents, layers.stack), strict=True))
        if any(k == 0 for k, _ in each):
            raise SettingError(
                "layers", f"sparse layers that each get at least one of {name} ({active})", self.layers
            )
        if any(k >= latents for k, latents in each):
            expected = f"sparse layers that each have more latents than {name}"
            raise SettingError("layers", expected, self.layers)

    @property
    def peak_lr(self) -> float:
        """The learning rate, or the optimizer's default for this many latents (as in sparsify 1.3)."""
        default = OPTIMIZERS[self.optimizer].default_lr or 0.0
        return self.lr or default * (2**14 / self.latents) ** 0.5

    @property
    def steps(self) -> int:
        """Optimizer steps; a last incomplete batch is not trained on."""
        return self.tokens // self.batch


def check_transcoder(recipe: Recipe) -> None:
    """Raise SettingError if no transcoder can be trained by this recipe, only an SAE."""
    if INPUTS[recipe.inputs].per_token:
        names = ", ".join(name for name, inputs in INPUTS.items() if not inputs.per_token)
        expected = f"one of {names}, since the norm of a transcoder's target is not known from its input"
        raise SettingError("inputs", expected, recipe.inputs)


RECIPE_FIELDS = {f.name: f for f in fields(Recipe)}
NAMED = {name: f.metadata["names"] for name, f in RECIPE_FIELDS.items() if f.metadata["names"] is not None}
OFF = {name: f.metadata["off"] for name, f in RECIPE_FIELDS.items() if f.metadata["off"]}  # what None stands for
RECIPE_TYPES = get_type_hints(Recipe)


def zero_refused(name: str) -> SettingError:
    """What to say of a 0 in a field that is off when it is None."""
    least = "more than 0" if "gt" in RECIPE_FIELDS[name].metadata["bounds"] else "at least 1"
    return SettingError(name, f"{least}, or null for {OFF[name]}", 0)
