"""What one cell trains: a flat record of scalars, so that any field can be an axis.

Standard library only: the training core imports it on machines that have nothing but torch.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from harness.errors import SettingError
from harness.sae.sizes import apportion

Scalar: TypeAlias = bool | int | float | str
Kind = Literal["none", "dense", "dense_encoder", "sparse"]


@dataclass(frozen=True)
class Layers:
    """The added layers of an SAE, as written in a study.

    `none`; `dense 2-4-4-2`; `dense_encoder 2`; `sparse 3`: three sparse layers that share latents and k;
    `sparse 4-2-1`: the same in these proportions; `sparse 3 each`: three layers that have all of them each.

    encoder, decoder: widths of the added layers in data-flow order, as multiples of the activation width.
    stack: each sparse layer's part of the latents and of k.
    """

    kind: Kind
    encoder: tuple[float, ...] = ()
    decoder: tuple[float, ...] = ()
    stack: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str) -> Layers:
        """Read the notation above. Raises SettingError."""
        kind, _, rest = text.partition(" ")
        if kind == "none" and not rest:
            return cls("none")
        if kind == "sparse" and (match := re.fullmatch(r"([1-9]\d?)( each)?", rest)):
            depth = int(match[1])
            return cls("sparse", stack=(1.0 if match[2] else 1 / depth,) * depth)
        if kind == "sparse" and re.fullmatch(r"[1-9]\d?(-[1-9]\d?)+", rest):
            parts = [int(part) for part in rest.split("-")]
            return cls("sparse", stack=tuple(part / sum(parts) for part in parts))
        if kind in ("dense", "dense_encoder") and re.fullmatch(r"\d+(\.\d+)?(-\d+(\.\d+)?)*", rest):
            widths = tuple(float(w) for w in rest.split("-"))
            if 0.0 not in widths and kind == "dense_encoder":
                return cls("dense_encoder", encoder=widths)
            if 0.0 not in widths and len(widths) % 2 == 0:
                half = len(widths) // 2
                return cls("dense", encoder=widths[:half], decoder=widths[half:])
        expected = (
            "'none', 'dense W-W' (as many widths after the sparse layer as before it), "
            "'dense_encoder W', 'sparse DEPTH', 'sparse DEPTH each' or 'sparse PART-PART'"
        )
        raise SettingError("layers", expected, text)

    @property
    def depth(self) -> int:
        """Number of sparse layers."""
        return len(self.stack)


def parse_shares(text: str) -> tuple[float, ...]:
    """Rising shares between 0 and 1, as in `0.125-0.5`; `none` for none. Raises SettingError."""
    if text == "none":
        return ()
    if re.fullmatch(r"0?\.\d+(-0?\.\d+)*", text):
        shares = tuple(float(share) for share in text.split("-"))
        if shares[0] > 0 and all(low < high for low, high in pairwise(shares)):
            return shares
    raise SettingError("prefixes", "'none' or rising shares of the latents such as '0.125-0.5'", text)


# Adam's and Signum's as in EleutherAI's sparsify 1.3: a base for 2^14 latents, times sqrt(2^14 / latents). Muon's
# update is scaled to the size of Adam's (harness/muon.py); Lion wants 3 to 10 times less than Adam (Chen et al.
# 2023, arXiv 2302.06675, section 5). SGD has no default that would fit more than one problem.
DEFAULT_LR = {
    "adam": 2e-4,
    "adamw": 2e-4,
    "muon": 2e-4,
    "soap": 2e-4,
    "schedule_free_adam": 2e-4,
    "signum": 5e-3,
    "lion": 4e-5,
}


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
    sparsifier: Literal["topk", "batchtopk", "relu", "jumprelu"] = setting(
        "what selects the active latents; all but relu hold k", "topk"
    )
    sparsity: float = setting("weight of what relu (L1) and jumprelu (L0) charge for activity", 0.0, ge=0)
    prefixes: str = setting("shares of the latents that must reconstruct alone (matryoshka)", "none")
    inputs: Literal["centred", "uncentred", "unit_norm"] = setting(
        "what the SAE sees: centred activations, as they are, or centred and of one norm", "centred"
    )
    penalty: float = setting("weight of the spread of the pre-activation means", 0.0, ge=0)
    penalty_on: Literal["relu", "linear"] = setting("pre-activations after or before ReLU", "relu")
    aux_k: int = setting("dead latents a token that learn from the error; 0: none", 0, ge=0)
    aux_weight: float = setting("weight of their error", 1 / 32, ge=0)
    k_start: int = setting("active latents a token at the start, falling linearly to k; 0: k", 0, ge=0)
    k_decay: float = setting("share of the steps in which they fall", 0.5, gt=0, le=1)
    resample: int = setting("tokens between two resamplings of dead latents; 0: never", 0, ge=0)
    decoder_norm: Literal["unit", "free"] = setting("whether decoder rows are held at unit norm", "unit")
    optimizer: Literal["adam", "adamw", "muon", "soap", "schedule_free_adam", "signum", "lion", "sgd"] = setting(
        "rule that updates the weights", "adam"
    )
    lr: float = setting("peak learning rate; 0: the optimizer's default for this many latents", 0.0, ge=0)
    weight_decay: float = setting("decoupled weight decay of adamw, on matrices", 0.01, ge=0)
    batch: int = setting("tokens a step", 1024, ge=1)
    warmup: float = setting("share of the steps in which the learning rate rises from 0", 0.05, ge=0, le=1)
    decay: float = setting("share of the steps, at the end, in which it falls to 0", 0.2, ge=0, le=1)
    gradient_clip: float = setting("largest global norm of the gradient; 0: any", 1.0, ge=0)
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "of dense products in training (tf32: on GPUs, elsewhere float32); weights stay float32, with "
        "bfloat16 the active latents' values too",
        "float32",
    )
    dead_window: int = setting("a latent that did not fire in this many tokens is dead", 32_768, ge=1)
    seed: int = setting("seed of the initial weights and of the order of the batches", 0, ge=0)

    def __post_init__(self) -> None:
        """Raises SettingError for the first field that does not fit the others."""
        layers = Layers.parse(self.layers)
        parse_shares(self.prefixes)
        for name in ("k", "k_start"):
            self._check_active(name, layers)
        if self.sparsifier in ("relu", "jumprelu") and not self.sparsity:
            raise SettingError(
                "sparsity", f"more than 0, since {self.sparsifier} has no other bound", self.sparsity
            )
        if self.sparsifier == "relu" and self.decoder_norm == "free":
            expected = "'unit', since an L1 term and free norms have no minimum"
            raise SettingError("decoder_norm", expected, self.decoder_norm)
        if self.lr == 0 and self.optimizer not in DEFAULT_LR:
            raise SettingError("lr", f"more than 0, since {self.optimizer} has no default", self.lr)
        if self.batch > self.tokens:
            raise SettingError("batch", f"at most tokens ({self.tokens})", self.batch)
        if self.warmup + self.decay > 1:
            raise SettingError("warmup", f"at most 1 - decay ({1 - self.decay:g})", self.warmup)

    def _check_active(self, name: str, layers: Layers) -> None:
        """Every sparse layer has at least one active latent, and more latents than active ones."""
        active = getattr(self, name)
        if active == 0 and name == "k_start":
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
        """The learning rate, or the optimizer's default for this many latents."""
        return self.lr or DEFAULT_LR[self.optimizer] * (2**14 / self.latents) ** 0.5

    @property
    def steps(self) -> int:
        """Optimizer steps; a last incomplete batch is not trained on."""
        return self.tokens // self.batch


RECIPE_FIELDS = {f.name: f for f in fields(Recipe)}
