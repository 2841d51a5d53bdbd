"""What one pass of an SAE over held-out activations comes to, and the figures of learning curves that follow.

Final figures are measured apart from training, in `harness.evaluation`, so that a changed metric trains nothing
again; this module is all of measuring that training needs. docs/definitions.md says what the figures mean.

All functions take activations that are centred and scaled; `scale` brings MSE back to the model's own units.
An SAE is measured by its target: the activations themselves, or what a transcoder predicts from them.
Shape letters: B tokens of a batch, T held-out tokens, D activation width (of a transcoder's targets; I is that of
its inputs), N latents of all coders, L coders.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from harness.sae.model import SAEOutput

Figures = TypeVar("Figures")
Coding = Callable[[Tensor, Tensor], SAEOutput]  # what an SAE makes of a batch [B, I] with its target [B, D]
EVALUATION_BATCH = 2048  # tokens; bounds the memory of the [B, N] pre-activations
# Tokens within which a latent is to fire, besides the recipe's own window; docs/definitions.md says whose they are
WINDOWS = {"dead_fraction_1_5m_tokens": 1_500_000, "dead_fraction_10m_tokens": 10_000_000}


class Pass(NamedTuple):
    """Sums and counts over all held-out tokens, each token coded once."""

    errors: Tensor  # [T], float64: squared distance between a token's target and its reconstruction
    dimension_errors: Tensor  # [D], float64: sum over tokens of the squared error of each dimension
    firings: Tensor  # [N], float64: number of tokens that each latent fired on (value above zero)
    first_fired: Tensor  # [N], int64: the first of these tokens, from 0; T where there is none
    remainders: (
        Tensor  # [L + 1], float64: sum of squares of the target, and of what is left of it after each coder
    )
    latents: tuple[int, ...]  # of each coder


class HeldOut:
    """Held-out activations x [T, I] and their targets [T, D], which are x itself for an SAE.

    Variance is measured about the targets' own per-dimension mean. scale: that of the targets. mean [D]: what
    centring took from them, scaled like them.
    """

    def __init__(
        self,
        x: Tensor,
        scale: float,
        target: Tensor | None = None,
        *,
        mean: Tensor | float = 0.0,
        features: Callable[[], Tensor | None] = lambda: None,
        batch: int = EVALUATION_BATCH,
    ) -> None:
        """`features` gives the true features [T, F] where they are known. batch: tokens to code at a time."""
        self.x = x
        self.target = target = x if target is None else target
        self.scale = scale
        self.mean = mean
        self.features = features
        self.batch = batch
        self.squares = (target - target.mean(0)).square().sum(1)  # [T]: squared distance from the mean
        self._last: tuple[Coding, Pass] | None = None

    def head(self, tokens: int) -> HeldOut:
        """The first `tokens` tokens as a smaller held-out set."""
        x = self.x[:tokens]
        target = x if self.target is self.x else self.target[:tokens]
        return HeldOut(x, self.scale, target, mean=self.mean, batch=self.batch)

    def coded_by(self, code: Coding) -> Pass:
        """What coding all tokens comes to. Kept until another SAE is asked about.

        All that is measured begins with it; the SAE must not change meanwhile.
        """
        if self._last is None or self._last[0] != code:
            self._last = code, code_all(code, self)
        return self._last[1]

    def in_batches(self, batch: int) -> HeldOut:
        """The same tokens, to be coded so many at a time."""
        other = copy(self)
        other.batch, other._last = batch, None
        return other


def fired(output: SAEOutput) -> Tensor:
    """Number of tokens that each latent fired on, coder after coder: [N]."""
    firings = [part.code.fired() for part in output.coders]
    return torch.cat(firings) if len(firings) > 1 else firings[0]


def _of_batches(
    figures: Callable[[int, Tensor, SAEOutput], Figures], code: Coding, held_out: HeldOut
) -> list[Figures]:
    """The figures of each batch, from its first token, its targets, and what the SAE makes of it.

    What it made of a batch is gone when the next one is coded.
    """

    def of_batch(start: int) -> Figures:
        stop = start + held_out.batch
        x, target = held_out.x[start:stop], held_out.target[start:stop]
        return figures(start, target, code(x, target))

    return [of_batch(start) for start in range(0, len(held_out.x), held_out.batch)]


@torch.no_grad()
def code_all(code: Coding, held_out: HeldOut) -> Pass:
    """Code all held-out tokens."""
    latents: tuple[int, ...] = ()

    def figures(start: int, target: Tensor, output: SAEOutput) -> tuple[Tensor, ...]:
        nonlocal latents
        latents = tuple(part.code.support.latents for part in output.coders)
        of_dimensions = (target - output.reconstruction).square().sum(0).double()
        first_fired = _first_fired(output, start, len(held_out.x))
        return _errors(target, output), of_dimensions, fired(output), _remainders(output), first_fired

    errors, of_dimensions, firings, remainders, firsts = zip(*_of_batches(figures, code, held_out), strict=True)
    return Pass(
        errors=torch.cat(errors).double(),
        dimension_errors=torch.stack(of_dimensions).sum(0),
        firings=torch.stack(firings).double().sum(0),
        first_fired=torch.stack(firsts).amin(0),
        remainders=torch.stack(remainders).sum(0),
        latents=latents,
    )


@torch.no_grad()
def curve_figures(code: Coding, held_out: HeldOut) -> dict[str, float]:
    """Those of `reconstruction_figures`, without the rest of a `Pass`, which takes a third of its time."""

    def figures(start: int, target: Tensor, output: SAEOutput) -> tuple[Tensor, Tensor]:
        return _errors(target, output), fired(output)

    errors, firings = zip(*_of_batches(figures, code, held_out), strict=True)
    return reconstruction_figures(torch.cat(errors).double(), torch.stack(firings).double().sum(0), held_out)


def _errors(target: Tensor, output: SAEOutput) -> Tensor:
    """Squared distance between each token's target and its reconstruction: [B]."""
    return (target - output.reconstruction).square().sum(1)


def _remainders(output: SAEOutput) -> Tensor:
    before = [part.target for part in output.coders if part.target is not None]
    last = output.coders[-1]
    return torch.stack([rows.double().square().sum() for rows in (*before, last.residual)])


def _first_fired(output: SAEOutput, start: int, never: int) -> Tensor:
    """The first token of the batch that each latent fired on, [N], counted from `start`; or else `never`."""
    firsts = []
    for part in output.coders:
        support, fires = part.code.support, part.code.values > 0
        first = torch.full((support.latents,), never, dtype=torch.int64, device=fires.device)
        firsts.append(first.scatter_reduce_(0, support.indices[fires], support.tokens[fires] + start, "amin"))
    return torch.cat(firsts)


def reconstruction_figures(errors: Tensor, firings: Tensor, held_out: HeldOut) -> dict[str, float]:
    """MSE, normalised MSE, FVU and L0, by name, from those of a `Pass`."""
    squares = held_out.squares.double()
    return {
        "mse": float(errors.mean() / held_out.target.shape[1]) * held_out.scale**2,
        "nmse": float((errors / squares.clamp_min(1e-12)).mean()),
        "fvu": float(errors.sum() / squares.sum()),
        "l0": float(firings.sum() / len(held_out.x)),
    }
