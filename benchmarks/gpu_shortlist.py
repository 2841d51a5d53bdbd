"""How good a product in float16 is at finding the k largest of one in float32, after some training on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.shape import LR, Batches, Shape, activations
from benchmarks.table import Value, table, why
from harness.sae.gpu import shortlist
from harness.sae.topk import top_k
from harness.study.recipe import Recipe
from harness.training.cell import Cell

STEPS = 50
PART = 2048  # tokens whose product in float32 is there at a time
NOISE = 2e-6  # of sums in float32, relative to the norms of what is multiplied


def shortlists(sizes: Sequence[Shape], device: torch.device) -> str:
    """Of a batch's tokens after training: candidates for each of k, and those that were not proved; tokens whose
    set differs from that of the float32 product, and by more than rounding."""
    rows: list[list[Value]] = []
    for shape in sizes:
        try:
            rows.append([str(shape), *_compared(shape, device)])
        except Exception as failure:  # the others are worth having all the same
            rows.append([str(shape), why(failure), None, None, None])
    return table(["d, latents, k, batch", "candidates / k", "unproved", "other set", "beyond rounding"], rows)


def _compared(shape: Shape, device: torch.device) -> list[Value]:
    """Nothing where there is no shortlist."""
    x, weight, bias = _trained(shape, device)
    if not shortlist.pays(x, shape.latents, shape.k):
        return [None, None, None, None]
    candidates, left = _candidates(x, weight, bias, shape.k)
    other, beyond = _differences(x, weight, bias, shape.k)
    return [candidates, f"{left} of {len(x):,}", other, beyond]


def _trained(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A batch, encoder and bias."""
    batch = Batches(activations(shape.width, max(20_000, 2 * shape.batch)).to(device), shape.batch)
    recipe = Recipe(latents=shape.latents, k=shape.k, batch=shape.batch, tokens=10**9, lr=LR, warmup=0.0)
    cell = Cell(recipe, shape.width, device)
    for _ in range(STEPS):
        cell.step(batch())
    coder = cell.sae.stack()[0]
    return batch(), coder.encoder.detach(), coder.bias.detach()


@torch.no_grad()
def _candidates(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[float, int]:
    """How many there are for each of k, a mean over tokens that are proved, and how many tokens are not."""
    values, indices = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int64)
    counts = shortlist._near(*shortlist._rough(x, weight, bias), x, weight, bias, values, indices)
    proved = counts[counts > 0]
    return float(proved.float().mean()) / k, len(counts) - len(proved)


@torch.no_grad()
def _differences(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[int, int]:
    """Tokens whose k largest are not those of the float32 product; and whose least is too small for rounding."""
    _, indices = shortlist.top_k_of_product(x, weight, bias, k)
    longest = torch.linalg.vector_norm(weight, dim=1).amax()
    other = beyond = 0
    for rows, ours in zip(torch.split(x, PART), torch.split(indices, PART), strict=True):
        product = torch.addmm(bias, rows, weight.T)
        values, theirs = top_k(product, k)
        other += int((ours.sort(1).values != theirs.sort(1).values).any(1).sum())
        lost = values.amin(1) - product.gather(1, ours).amin(1)
        beyond += int((lost > NOISE * longest * torch.linalg.vector_norm(rows, dim=1)).sum())
    return other, beyond
