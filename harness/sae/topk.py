"""Selecting entries of a batch's pre-activations [B, N]: exactly, and without a full search where that is cheaper.

Shape letters: B tokens, N latents, A selected entries, K of them a token where all have as many.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.sae import gpu, native
from harness.sae.support import FullSupport, Support

GROUP = 4  # entries a group
LEAST = 4  # groups for each entry that is looked for: with fewer, narrowing down costs what it saves


def top_k(pre_activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of [B, N], exactly: their values [B, k] and indices [B, k], in no order.

    Long rows are narrowed down first: the k largest entries lie in the k groups with the largest maxima, which
    are found in the same way. A group is every N/4-th entry, so that the maxima are taken over whole rows of
    memory. Which of equal entries is taken is not specified.
    """
    batch, latents = pre_activations.shape
    if gpu.takes_top_k(pre_activations, k):
        return gpu.top_k(pre_activations, k)
    if k <= latents and native.usable(pre_activations):
        return native.top_k(pre_activations, k)
    if latents % GROUP or latents < LEAST * GROUP * k:
        values, indices = pre_activations.topk(k, dim=1, sorted=False)
        return values, indices
    stride = latents // GROUP
    grouped = pre_activations.view(batch, GROUP, stride)
    _, groups = top_k(grouped.amax(1), k)
    finalists = grouped.gather(2, groups.unsqueeze(1).expand(batch, GROUP, k)).view(batch, GROUP * k)
    values, places = finalists.topk(k, dim=1, sorted=False)
    return values, groups.gather(1, places % k) + (places // k) * stride


def largest(entries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """All of [M] that are at least as large as the count-th largest: their values and places, both [A].

    Narrowed down as in `top_k`: they lie in groups whose maximum is at least the count-th largest maximum. On a
    GPU exactly `count` of them, whichever of equal ones: to learn how many are equal would be to wait for it.
    """
    size = len(entries)
    if size % GROUP or size < LEAST * GROUP * count:
        places = torch.arange(size, device=entries.device)
    else:
        _, groups = largest(entries.view(GROUP, -1).amax(0), count)
        strides = torch.arange(0, size, size // GROUP, device=entries.device)
        places = (strides.unsqueeze(1) + groups).flatten()
        entries = entries[places]
    if gpu.holds(entries):
        values, chosen = entries.topk(count, sorted=False)
        return values, places[chosen]
    smallest = entries.kthvalue(len(entries) - count + 1).values
    chosen = (~(entries < smallest)).nonzero()[:, 0]  # NaN counts as the largest, as in torch
    return entries[chosen], places[chosen]


def masked(dense: Tensor, mask: Tensor) -> tuple[Tensor, Support]:
    """The entries [A] of dense [B, N] where mask [B, N] is true, token after token; and where they are.

    On a GPU all entries [B, N], those where the mask is false so low that they are never selected and get no
    gradient: to learn how many are left would be to wait for it.
    """
    if gpu.holds(dense):
        return dense.where(mask, torch.finfo(dense.dtype).min), FullSupport.of(dense)
    places = mask.flatten().nonzero()[:, 0]
    return dense.flatten()[places], Support.of_places(places, mask.shape)
