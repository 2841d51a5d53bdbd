"""Sparsifiers: which pre-activations become code, and as what values.

A sparsifier selects entries of the pre-activations [B, N] and turns the selected ones [A] into values; gradients
pass through the selected entries only. `harness.study.catalogue.SPARSIFIERS` names them.

Shape letters: B tokens, N latents, A selected entries.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from harness.sae import gpu
from harness.sae.roles import Role
from harness.sae.sparse import SparseCode
from harness.sae.support import FullSupport, Support
from harness.sae.topk import largest, masked, top_k


class Sparsifier(nn.Module):
    """What a coder's sparse layer does.

    k: active latents per token, which may be changed while training. latents: of the layer. scale: standard
    deviation of a pre-activation at initialisation.
    """

    ROLES: ClassVar[dict[str, Role]] = {}
    SHORTLIST = False  # whether the k largest of each token are all that it looks for
    WHOLE_BATCH = False  # whether what it selects of a token depends on the others

    def __init__(self, k: int, latents: int, scale: float) -> None:
        super().__init__()
        self.k = k

    def select(self, pre_activations: Tensor) -> tuple[Tensor, Support]:
        """The entries [A] of [B, N] to compute on (all that fire, and any that need a gradient), and where."""
        raise NotImplementedError

    def values(self, active: Tensor, support: Support) -> Tensor:
        """The code of the selected pre-activations [A]: [A], not negative."""
        return active.relu()

    def activity(self, code: SparseCode) -> Tensor:
        """What the loss charges for, where the selection alone does not bound it: a mean over tokens."""
        return code.values.new_zeros(())

    def charge(self, activity: Tensor) -> Tensor:
        """What the loss charges for this mean; a number."""
        return activity

    def restart(self, latents: Tensor, norm: Tensor) -> None:
        """Let these latents (indices) start again, with encoder rows of this norm (a number); without gradient."""


class TopK(Sparsifier):
    """The k largest of each token: Gao et al. 2024 (arXiv 2406.04093), section 2.3."""

    SHORTLIST = True

    def select(self, pre_activations: Tensor) -> tuple[Tensor, Support]:
        entries, indices = top_k(pre_activations, self.k)
        return entries.flatten(), Support.of_rows(indices, pre_activations.shape[1])


class Calibrated(Sparsifier):
    """One that at evaluation lets through all that scores above `cutoff`, whatever the other tokens are.

    Nothing in training holds the mean number of these at k, so `harness.sae.calibration` sets the cutoff to where
    it is k on training activations.
    """

    LEARNED: ClassVar[float | None] = None  # the cutoff that training works with, where it learns thresholds

    cutoff: Tensor

    def __init__(self, k: int, latents: int, scale: float) -> None:
        super().__init__(k, latents, scale)
        self.register_buffer("cutoff", torch.tensor(self.LEARNED or 0.0))

    def scores(self, pre_activations: Tensor) -> Tensor:
        """What is compared with the cutoff, of pre-activations [B, N]: [B, N], positive where these are."""
        raise NotImplementedError


class BatchTopK(Calibrated):
    """The k·B largest of a batch; a threshold once trained: Bussmann et al. 2024 (arXiv 2412.06410), section 3.

    The threshold is what separates the k·T largest pre-activations of T training tokens from the others: the
    cutoff of a batch of them all.
    """

    WHOLE_BATCH = True

    def scores(self, pre_activations: Tensor) -> Tensor:
        return pre_activations

    def select(self, pre_activations: Tensor) -> tuple[Tensor, Support]:
        if not self.training:
            return masked(pre_activations, pre_activations > self.cutoff)
        tokens, latents = pre_activations.shape
        if not tokens:
            return masked(pre_activations, pre_activations > 0)
        entries, places = largest(pre_activations.flatten(), min(self.k, latents) * tokens)
        if not gpu.holds(entries):  # on a GPU, to learn how many there are would be to wait for it
            entries, places = entries[entries > 0], places[entries > 0]
        places, order = places.sort()
        return entries[order], Support.of_places(places, pre_activations.shape)


class ReLU(Sparsifier):
    """All that is positive, charged by its sum (L1): Bricken et al. 2023, transformer-circuits.pub.

    Decoder rows have unit norm, so the sum needs no weighting by them.
    """

    def select(self, pre_activations: Tensor) -> tuple[Tensor, Support]:
        if gpu.usable(pre_activations):
            return pre_activations, FullSupport.of(pre_activations)
        return masked(pre_activations, pre_activations > 0)

    def activity(self, code: SparseCode) -> Tensor:
        return code.values.sum(dtype=torch.promote_types(code.values.dtype, torch.float32)) / max(
            1, len(code.support.starts)
        )


class JumpReLU(Calibrated):
    """All above a learned threshold of its own, drawn to k a token: Rajamanoharan et al. 2024 (arXiv 2407.14435).

    Gradients reach the thresholds through a rectangle of width `bandwidth` around them (section 3). The cost is
    (L0 / k - 1)^2, the variant with a target, so that k means the same as elsewhere. It seldom ends at k, so at
    evaluation all thresholds are multiplied by one factor, the cutoff; their logarithms, which are learned, shift.
    """

    ROLES: ClassVar[dict[str, Role]] = {"log_threshold": Role.THRESHOLD}
    START, BANDWIDTH = 1.0, 0.2  # in standard deviations of a pre-activation at initialisation
    LEARNED = 1.0

    def __init__(self, k: int, latents: int, scale: float) -> None:
        super().__init__(k, latents, scale)
        self.start = self.START * scale
        self.log_threshold = nn.Parameter(torch.full((latents,), self.start).log())
        self.bandwidth = self.BANDWIDTH * scale

    def restart(self, latents: Tensor, norm: Tensor) -> None:
        self.log_threshold[latents] = (self.start * norm).log()

    def scores(self, pre_activations: Tensor) -> Tensor:
        return pre_activations / self.log_threshold.exp()

    def select(self, pre_activations: Tensor) -> tuple[Tensor, Support]:
        if gpu.usable(pre_activations):
            return pre_activations, FullSupport.of(pre_activations)
        if not self.training:
            return masked(pre_activations, pre_activations > self._thresholds())
        floor = self.log_threshold.detach().exp() - self.bandwidth / 2
        return masked(pre_activations, pre_activations > floor.clamp_min(0))

    def values(self, active: Tensor, support: Support) -> Tensor:
        threshold = support.each(self._thresholds())
        jump = _FullJump if _kernels_take(active, support) else _Jump
        return cast(Tensor, jump.apply(active, threshold, self.bandwidth))  # type: ignore[no-untyped-call]

    def _thresholds(self) -> Tensor:
        """Of each latent: [N]."""
        learned = self.log_threshold.exp()
        return learned if self.training else learned * self.cutoff

    def activity(self, code: SparseCode) -> Tensor:
        threshold = code.support.each(self.log_threshold.exp())
        step_of = _FullStep if _kernels_take(code.active, code.support) else _Step
        step = step_of.apply(code.active.detach(), threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        return cast(Tensor, step).sum(dtype=threshold.dtype) / max(1, len(code.support.starts))

    def charge(self, activity: Tensor) -> Tensor:
        return (activity / self.k - 1).square()


class _Jump(torch.autograd.Function):
    """z·[z > threshold], with the pseudo-derivative -threshold/bandwidth in the rectangle around it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        near = (z - threshold).abs() < ctx.bandwidth / 2
        return (
            grad * (z > threshold),
            (-grad * threshold * near / ctx.bandwidth).sum_to_size(threshold.shape),
            None,
        )


class _Step(torch.autograd.Function):
    """[z > threshold] as a number, with the pseudo-derivative -1/bandwidth for the threshold."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        z, threshold = ctx.saved_tensors
        near = (z - threshold).abs() < ctx.bandwidth / 2
        return None, (-grad * near / ctx.bandwidth).sum_to_size(threshold.shape), None


def _kernels_take(active: Tensor, support: Support) -> bool:
    return isinstance(support, FullSupport) and gpu.usable(active)


class _FullJump(torch.autograd.Function):
    """As `_Jump`, of all entries [B, N] and thresholds [N], by kernels for GPUs."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return gpu.jump(z, threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        grad_z, near = gpu.jump_backward(z, grad.contiguous(), threshold, ctx.bandwidth)
        return grad_z, -near * threshold / ctx.bandwidth, None


class _FullStep(torch.autograd.Function):
    """As `_Step`, of all entries [B, N] and thresholds [N], summed over tokens: [N]."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        above, near = gpu.jump_counts(z, threshold, bandwidth)
        ctx.save_for_backward(near)
        ctx.bandwidth = bandwidth
        return above

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        (near,) = ctx.saved_tensors
        return None, -grad * near / ctx.bandwidth, None
