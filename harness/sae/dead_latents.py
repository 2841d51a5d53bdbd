"""What the strongest dead latents decode to, on a GPU, by products over the dead alone.

They cost the less the fewer are dead, though how many there are is not learnt: that would be to wait for the GPU.

Shape letters: B tokens, N latents, W width at the sparse layer and D after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from harness.sae.gpu import dead_products
from harness.sae.gpu.dead_products import Dead, Product
from harness.sae.model import Coder, CoderOutput
from harness.sae.sparse import rounded


def takes(coder: Coder, part: CoderOutput) -> bool:
    """Whether the kernels for GPUs take these."""
    dense, target = part.code.pre_activations, part.target
    if dense is None or target is None:
        return False
    weights = coder.encoder, coder.bias, coder.decoder
    return dead_products.takes(dense, part.input, target, part.reconstruction, *weights)


def mean_squares(coder: Coder, part: CoderOutput, dead: Tensor, k: int) -> list[Tensor]:
    """Mean squares of what the k strongest of the dead miss of the error, and of the error; the mean error, [D].

    dead [N], bool. The first number is in proportion to how many of k are dead.
    """
    dense, target = cast(Tensor, part.code.pre_activations), cast(Tensor, part.target)
    latents = dead_products.listed(dead)
    rows = decoded_strongest(coder, part.input, dense, latents, k)
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=dense.dtype == torch.bfloat16):
        answer = coder.decoder_mlp.beyond_none(rows).float()
    missed, *of_error = _Squares.apply(answer, target.detach(), part.reconstruction.detach(), latents)  # type: ignore[no-untyped-call]
    return [missed * (latents.number[0] / k).clamp(max=1), *of_error]


def decoded_strongest(coder: Coder, x: Tensor, dense: Tensor, latents: Dead, k: int) -> Tensor:
    """What the k strongest dead latents of each token decode to: [B, D].

    x [B, W]: what a coder's sparse layer saw; dense [B, N]: all pre-activations. Operands have the
    precision of the product that dense is. The gradients of x and of the bias are as any others. Those of encoder
    and decoder are zero but for the dead. They are added to `grad` in place when the backward pass has put all
    others there: RuntimeError if it leaves none.
    """
    with torch.autocast(x.device.type, torch.bfloat16, enabled=dense.dtype == torch.bfloat16):
        read = rounded(x), rounded(coder.encoder), rounded(coder.decoder)
    weights = (coder.encoder, coder.decoder)
    return cast(Tensor, _Decoded.apply(x, coder.bias, weights, read, dense, latents, k))  # type: ignore[no-untyped-call]


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor,
        weights: tuple[nn.Parameter, nn.Parameter],
        read: tuple[Tensor, Tensor, Tensor],
        dense: Tensor,
        latents: Dead,
        k: int,
    ) -> Tensor:
        precision = dead_products.precision()
        codes = dead_products.strongest(dense, latents, k)
        ctx.save_for_backward(*read, codes)
        ctx.weights, ctx.latents, ctx.precision = weights, latents, precision
        return dead_products.decoded(codes, read[2], latents, precision)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None, None, None, None]:
        x, encoder, decoder, codes = ctx.saved_tensors
        latents, precision = ctx.latents, ctx.precision
        grad = grad.contiguous().to(codes.dtype)
        grad_codes, grad_bias = dead_products.code_gradient(grad, decoder, codes, latents, precision)
        grad_x = (
            dead_products.decoded(grad_codes, encoder, latents, precision) if ctx.needs_input_grad[0] else None
        )
        weights = ctx.weights

        def add() -> None:
            into_encoder, into_decoder = map(_gradient, weights)
            dead_products.add_rows(
                Product(grad_codes, x, into_encoder), Product(codes, grad, into_decoder), latents, precision
            )
            increment_version([into_encoder, into_decoder])  # what is known of them is no longer true

        _behind_the_backward_pass(add)
        return grad_x, grad_bias, None, None, None, None, None


class _Squares(torch.autograd.Function):
    """`dead_products.squares`, of which the first has a gradient for the answer."""

    @staticmethod
    def forward(
        ctx: Any, answer: Tensor, target: Tensor, reconstruction: Tensor, latents: Dead
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(target, reconstruction, answer)
        ctx.latents = latents
        missed, of_error, error = dead_products.squares(target, reconstruction, answer, latents)
        ctx.mark_non_differentiable(of_error, error)
        return missed, of_error, error

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
        target, reconstruction, answer = ctx.saved_tensors
        gradient = dead_products.squares_gradient(target, reconstruction, answer, ctx.latents, grad)
        return gradient, None, None, None


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise RuntimeError("aux-k: expected a backward pass that puts gradients into encoder and decoder")
    weight.grad = weight.grad.contiguous()
    return weight.grad


def _behind_the_backward_pass(work: Callable[[], None]) -> None:
    """Do it when all gradients are there, before `backward` returns."""
    torch.autograd.Variable._execution_engine.queue_callback(work)
