"""What one cell trains: a flat record of scalars, so that any field can be an axis.

Standard library only: the training core imports it on machines that have nothing but torch.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeAlias

Scalar: TypeAlias = bool | int | float | str
Kind = Literal["none", "dense", "dense_encoder", "sparse"]


@dataclass(frozen=True)
class Layers:
    """The added layers of an SAE, as written in a study: `none`, `dense 2-4-4-2`, `dense_encoder 2`, `sparse 3`.

    encoder, decoder: widths of the added layers in data-flow order, as multiples of the activation width.
    depth: number of stacked top-k layers (`sparse` only; 1 otherwise).
    """

    kind: Kind
    encoder: tuple[float, ...] = ()
    decoder: tuple[float, ...] = ()
    depth: int = 1

    @classmethod
    def parse(cls, text: str) -> Layers:
        """Read the notation above. Raises ValueError saying what was expected."""
        kind, _, rest = text.partition(" ")
        if kind == "none" and not rest:
            return cls("none")
        if kind == "sparse" and re.fullmatch(r"[1-9]\d?", rest):
            return cls("sparse", depth=int(rest))
        if kind in ("dense", "dense_encoder") and re.fullmatch(r"\d+(\.\d+)?(-\d+(\.\d+)?)*", rest):
            widths = tuple(float(w) for w in rest.split("-"))
            if 0.0 not in widths and kind == "dense_encoder":
                return cls("dense_encoder", encoder=widths)
            if 0.0 not in widths and len(widths) % 2 == 0:
                half = len(widths) // 2
                return cls("dense", encoder=widths[:half], decoder=widths[half:])
        raise ValueError(
            "expected 'none', 'dense W-W' (as many widths behind the sparse layer as before it), "
            f"'dense_encoder W' or 'sparse DEPTH', got {text!r}"
        )

    def __str__(self) -> str:
        if self.kind == "none":
            return "none"
        if self.kind == "sparse":
            return f"sparse {self.depth}"
        return f"{self.kind} " + "-".join(f"{w:g}" for w in self.encoder + self.decoder)


def setting(doc: str, default: Any = MISSING, **bounds: float) -> Any:
    """A recipe field: one line of meaning and pydantic's bounds (gt, ge, lt, le), read by `study.spec`."""
    return field(default=default, metadata={"description": doc, **bounds})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a cell's result, besides the activations."""

    latents: int = setting("latents of the SAE, over all stacked layers together", ge=2)
    k: int = setting("active latents a token, over all stacked layers together", ge=1)
    tokens: int = setting("tokens trained on", ge=1)
    layers: str = setting("added layers: none, dense W-W, dense_encoder W, sparse DEPTH", "none")
    penalty: float = setting("weight of the spread of the pre-activation means", 0.0, ge=0)
    penalty_on: Literal["relu", "linear"] = setting("pre-activations after or before ReLU", "relu")
    optimizer: Literal["adam", "muon"] = setting("rule that updates the weights", "adam")
    lr: float = setting("peak learning rate", 1e-3, gt=0)
    batch: int = setting("tokens a step", 1024, ge=1)
    warmup: float = setting("share of the steps in which the learning rate rises from 0", 0.05, ge=0, le=1)
    decay: float = setting("share of the steps, at the end, in which it falls to 0", 0.2, ge=0, le=1)
    gradient_clip: float = setting("largest global norm of the gradient", 1.0, gt=0)
    dead_window: int = setting("a latent that did not fire in this many tokens is dead", 32_768, ge=1)
    seed: int = setting("seed of the initial weights and of the order of the batches", 0, ge=0)

    def __post_init__(self) -> None:
        try:
            layers = Layers.parse(self.layers)
        except ValueError as failure:
            raise ValueError(f"layers: {failure}") from None
        if self.k >= self.latents:
            raise ValueError(f"k: expected less than latents ({self.latents}), got {self.k}")
        if layers.depth > self.k:
            raise ValueError(f"layers: expected at most k = {self.k} stacked layers, got {self.layers!r}")
        if (self.k + layers.depth - 1) // layers.depth >= self.latents // layers.depth:
            raise ValueError(f"layers: {self.layers!r} leaves no more latents than k in each layer")
        if self.batch > self.tokens:
            raise ValueError(f"batch: expected at most tokens ({self.tokens}), got {self.batch}")
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup: warmup + decay: expected at most 1, got {self.warmup + self.decay:g}")

    @property
    def steps(self) -> int:
        """Optimizer steps; a last incomplete batch is not trained on."""
        return self.tokens // self.batch


RECIPE_FIELDS = {f.name: f for f in fields(Recipe)}
