"""Whether a fast step learns the same: our losses beside those of a dense reference, from the same start."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.shape import LR, Batches, Shape, activations
from benchmarks.table import Value, table
from harness.progress import track
from harness.study.recipe import Recipe
from harness.training.cell import Cell

CLIP = 1.0


class DenseReference:
    """A top-k SAE by plain PyTorch: dense code, dense gradients, Adam as a loop; to compare with."""

    def __init__(self, cell: Cell) -> None:
        coder = cell.sae.stack()[0]
        self.k = cell.recipe.k
        start = (coder.encoder, coder.bias, coder.decoder, coder.decoder_mlp.bias_out)
        self.parameters = [torch.nn.Parameter(tensor.detach().clone()) for tensor in start]
        self.optimizer = torch.optim.Adam(self.parameters, lr=LR, foreach=False)

    def step(self, x: Tensor) -> float:
        """Train on a batch [B, D]; its mean squared error."""
        encoder, bias, decoder, behind = self.parameters
        pre = x @ encoder.T + bias
        kept = torch.zeros_like(pre).scatter(1, pre.topk(self.k, dim=1).indices, 1.0)
        loss = (pre.relu() * kept @ decoder + behind - x).square().mean()
        torch.autograd.backward(loss)
        assert decoder.grad is not None
        with torch.no_grad():
            decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            decoder.div_(torch.linalg.vector_norm(decoder, dim=1, keepdim=True))
        return float(loss.detach())


def curve(shape: Shape, steps: int) -> str:
    """The largest relative difference of the loss to the dense reference's up to some steps; that of the reference
    to itself, its input changed in the last bit, says how much of it is rounding that training magnifies."""
    recipe = Recipe(
        latents=shape.latents,
        k=shape.k,
        batch=shape.batch,
        tokens=steps * shape.batch,
        lr=LR,
        warmup=0.0,
        decay=0.0,
    )
    cell = Cell(recipe, shape.width, torch.device("cpu"))
    reference, rounded = DenseReference(cell), DenseReference(cell)
    batch = Batches(activations(shape.width), shape.batch)
    ours, noise = [], []
    for _ in track(range(steps), steps, "loss curves"):
        x = batch()
        exact = reference.step(x)
        noise.append(abs(rounded.step(torch.nextafter(x, 2 * x)) / exact - 1))
        cell.step(x)
        ours.append(abs(_loss(cell) / exact - 1))
    upto = sorted({max(1, steps // 50), max(1, steps // 5), steps})
    rows: list[list[Value]] = [[n, f"{max(ours[:n]):.1e}", f"{max(noise[:n]):.1e}"] for n in upto]
    return table(
        ["steps", "harness against the dense reference", "the reference against itself with the last bit changed"],
        rows,
    )


def _loss(cell: Cell) -> float:
    """The mean squared error of the last step."""
    error = float(cell.sums[0]) / (cell.recipe.batch * cell.centring.mean.numel())
    cell.sums.zero_()
    return error
