"""What the figures mean. docs/definitions.md says how each relates to what other packages report.

All functions take activations that are centred and scaled; `scale` brings MSE back to the model's own units.
Shape letters: B tokens, D activation width, N latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from harness.sae.model import Coded

EVALUATION_BATCH = 2048  # tokens; bounds the memory of the [B, N] pre-activations


@dataclass(frozen=True)
class LayerQuality:
    """One sparse layer of an SAE on held-out activations."""

    l0: float
    dead_fraction: float
    unexplained: float  # sum of |what is left over behind it|^2 / sum of |what the SAE saw|^2


@dataclass(frozen=True)
class Quality:
    """An SAE on held-out activations."""

    mse: float  # mean over all entries of the squared error, in the model's units
    nmse: float  # mean over tokens of |error|^2 / |x - mean|^2: every token weighs the same
    fvu: float  # sum of |error|^2 / sum of |x - mean|^2: fraction of variance unexplained
    l0: float  # active latents a token
    dead_fraction: float  # latents that did not fire on the first `dead_window` held-out tokens / latents
    alive: int  # latents that fired on them
    effective_latents: float  # exp of the entropy of the latents' shares of all firings
    layers: tuple[LayerQuality, ...]  # in the order in which they code; the figures above are of all together

    def as_dict(self) -> dict[str, float | int]:
        """The figures of all layers together, by name."""
        return {name: value for name, value in asdict(self).items() if name != "layers"}

    def layers_as_dicts(self) -> list[dict[str, float]]:
        """The figures of each layer, by name."""
        return [asdict(layer) for layer in self.layers]


class HeldOut:
    """Held-out activations [T, D] with their own per-dimension mean, about which variance is measured."""

    def __init__(self, x: Tensor, scale: float) -> None:
        self.x = x
        self.scale = scale
        self.squares = (x - x.mean(0)).square().sum(1)  # [T]: each token's squared distance from the mean

    def head(self, tokens: int) -> HeldOut:
        """The first `tokens` tokens as a smaller held-out set."""
        return HeldOut(self.x[:tokens], self.scale)


def fired(coded: Coded) -> Tensor:
    """Number of tokens that each latent fired on, coder after coder: [N]."""
    return torch.cat([part.code.fired() for part in coded.parts])


@torch.no_grad()
def evaluate(
    code: Callable[[Tensor], Coded], held_out: HeldOut, dead_window: int, batch: int = EVALUATION_BATCH
) -> Quality:
    """Measure an SAE, given as what it makes of a batch; firing is counted on the first `dead_window` tokens."""
    errors, counts, window_counts, remainders = [], [], [], []
    for start in range(0, len(held_out.x), batch):
        x = held_out.x[start : start + batch]
        coded = code(x)
        errors.append((x - coded.reconstruction).square().sum(1))
        counts.append(fired(coded))
        remainders.append(_remainders(coded))
        if start < dead_window:
            inside = dead_window - start
            window_counts.append(counts[-1] if inside >= len(x) else fired(code(x[:inside])))
    error = torch.cat(errors).double()
    squares = held_out.squares.double()
    alive = torch.stack(window_counts).sum(0) > 0
    firings = torch.stack(counts).double().sum(0)
    sizes = [part.code.support.latents for part in coded.parts]
    left = torch.stack(remainders).sum(0)
    return Quality(
        mse=float(error.mean() / held_out.x.shape[1]) * held_out.scale**2,
        nmse=float((error / squares.clamp_min(1e-12)).mean()),
        fvu=float(error.sum() / squares.sum()),
        l0=float(firings.sum() / len(held_out.x)),
        dead_fraction=1 - float(alive.double().mean()),
        alive=int(alive.sum()),
        effective_latents=effective_number(firings),
        layers=tuple(
            LayerQuality(
                l0=float(fired_here.sum() / len(held_out.x)),
                dead_fraction=1 - float(alive_here.double().mean()),
                unexplained=float(left_here / left[0].clamp_min(1e-12)),
            )
            for fired_here, alive_here, left_here in zip(
                torch.split(firings, sizes), torch.split(alive, sizes), left[1:], strict=True
            )
        ),
    )


def _remainders(coded: Coded) -> Tensor:
    """Sum of squares of what the SAE saw, and of what is left over behind each layer: [layers + 1]."""
    before = [part.target for part in coded.parts]
    last = coded.parts[-1]
    return torch.stack([rows.double().square().sum() for rows in (*before, last.residual)])


def effective_number(firings: Tensor) -> float:
    """exp(entropy) of the shares of `firings` [N]: N when all fire equally often, 1 when one does all firing."""
    total = firings.sum()
    if total == 0:
        return 0.0
    shares = firings[firings > 0] / total
    return float(torch.exp(-(shares * shares.log()).sum()))
