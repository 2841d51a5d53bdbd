"""The exact top-k of pre-activations most of which are only known roughly.

Candidates come from a product of lower precision, which takes half of the time or less: in int16, by a kernel of
our own, or in bfloat16 where that is faster or no kernel can be; on a GPU in float16. They are computed again in
float32. The kernels take as many for each token as a bound on the rounding demands. The plain-PyTorch version
takes a fixed number and proves by the same bound that no other latent is among the k largest; a token without
proof has its product in float32.

Shape letters: B tokens, N latents, W width, K selected latents per token.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from harness.sae import gpu, native
from harness.sae.gpu import shortlist as on_gpu
from harness.sae.support import Support
from harness.sae.topk import top_k

CANDIDATES = 2  # for each that is looked for: with these, the proof fails for few tokens in a hundred
MORE = 4  # the same for those tokens, before they get their products in float32
LEAST = 96  # latents for each that is looked for: with fewer, a product in float32 is as fast
UNIT = 2.0**-8  # of rounding to bfloat16, relative
EXACT = 2.0**-22  # for each term of a sum in float32, relative to its size, with room to spare


def pays(x: Tensor, latents: int, k: int) -> bool:
    """Whether a shortlist is faster for x [B, W]: measured on CPUs (docs/benchmarks.md)."""
    if gpu.holds(x):
        return on_gpu.pays(x, latents, k)
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if native.usable(x) and native.has_int16():
        return k <= latents
    return has_bfloat16() and latents >= LEAST * k


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself: AVX512-BF16 or AMX."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def top_k_of_product(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of x W^T + b: values [B, K] in float32 and indices [B, K], in no order.

    x [B, W], weight [N, W], bias [N], all float32. Which of entries that differ by float32's rounding alone is
    taken is not specified.
    """
    if gpu.holds(x):
        return on_gpu.top_k_of_product(x, weight, bias, k)
    compiled = native.usable(x, weight, bias)
    if compiled and native.has_int16():
        return native.top_k_of_product(x, weight, bias, k)
    rough_x, rough_weight = x.bfloat16(), weight.bfloat16()
    rough = torch.addmm(bias.bfloat16(), rough_x, rough_weight.T)
    error = _error(x, rough_x, weight, rough_weight, bias)
    if compiled:
        return native.top_k_near(rough, error, UNIT, x, weight, bias, k)
    values, indices, proved = _among(CANDIDATES * k, rough, error, x, weight, bias, k)
    if len(rows := (~proved).nonzero()[:, 0]):
        again = _among(MORE * k, rough[rows], error[rows], x[rows], weight, bias, k)
        values[rows], indices[rows], proved[rows] = again
    if len(rows := (~proved).nonzero()[:, 0]):
        values[rows], indices[rows] = top_k(torch.addmm(bias, x[rows], weight.T), k)
    return values, indices


def _among(
    candidates: int, rough: Tensor, error: Tensor, x: Tensor, weight: Tensor, bias: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest of so many candidates a row: values [B, K], indices [B, K]; whether that is proved [B].

    The bits of bfloat16 are ordered like numbers where they are positive, and quicker to compare as such.
    """
    bits, places = top_k(rough.view(torch.int16), candidates)
    others = bits.amin(1).clamp_min(0).view(torch.bfloat16).float()  # no entry outside is larger, roughly
    others += UNIT * others + error
    support = Support.of_rows(places, len(weight))
    exact = (support.inner_products(x, weight) + bias[support.indices]).view_as(places)
    values, chosen = exact.topk(k, dim=1, sorted=False)
    return values, places.gather(1, chosen), values.amin(1) > others  # NaN proves nothing


def _error(x: Tensor, rough_x: Tensor, weight: Tensor, rough_weight: Tensor, bias: Tensor) -> Tensor:
    """How much larger than its sum in bfloat16 any entry of a row can be, [B], by the Cauchy-Schwarz inequality:
    x·w - x'·w' = (x - x')·w + x'·(w - w'), for x', w' rounded; sums of such products are float32's."""
    largest = _norms(weight).amax()
    rounding = _norms(weight - rough_weight).amax() + EXACT * x.shape[1] * largest
    return _norms(x - rough_x) * largest + _norms(x) * (1 + UNIT) * rounding + UNIT * bias.abs().amax()


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms
