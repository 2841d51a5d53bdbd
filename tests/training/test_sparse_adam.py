"""SparseAdam: torch's arithmetic on the rows that have a gradient, and nothing elsewhere."""

import pytest
import torch

from harness.training.sparse_adam import SparseAdam
from tests.training.cells import BATCH, DATA, cell


def gradients(shape, steps=12):
    """Half of the rows zero in each, others each time."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        kept = torch.rand(shape[0], generator=generator) < 0.5
        yield kept, torch.randn(shape, generator=generator) * kept.view(-1, *(1,) * (len(shape) - 1))


@pytest.mark.parametrize("shape", [(7, 5), (7,)])
def test_equals_that_of_torch_on_sparse_gradients(shape):
    ours, theirs = (
        torch.nn.Parameter(torch.linspace(-1, 1, 7).reshape(7, *(1,) * (len(shape) - 1)).expand(shape).clone())
        for _ in range(2)
    )
    optimizer, reference = SparseAdam([ours], lr=0.03), torch.optim.SparseAdam([theirs], lr=0.03)
    for kept, gradient in gradients(shape):
        before = ours.detach().clone()
        ours.grad = gradient
        rows = kept.nonzero()[:, 0]
        theirs.grad = torch.sparse_coo_tensor(rows[None], gradient[rows], shape)
        optimizer.step()
        reference.step()
        assert torch.allclose(ours, theirs, atol=1e-7)
        assert torch.equal(ours[~kept], before[~kept])
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.allclose(optimizer.state[ours][name], reference.state[theirs][name], atol=1e-8)


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 2"])
def test_a_latent_that_does_not_fire_keeps_its_rows_where_adams_goes_on(layers):
    """Moments of an earlier step move it with Adam."""
    moved = {}
    for optimizer in ("adam", "sparse_adam"):
        one = cell(optimizer=optimizer, layers=layers, k=2, gradient_clip=None)
        one.step(DATA[:BATCH])  # so that there are moments
        before = [(coder.encoder.detach().clone(), coder.decoder.detach().clone()) for coder in one.sae.stack()]
        few = DATA[BATCH : BATCH + 1].repeat(BATCH, 1)  # one token, so that at most k latents fire
        fired = torch.cat([part.code.fired() for part in one.sae(few).coders]) > 0
        one.step(few)
        silent = torch.split(~fired, [coder.latents for coder in one.sae.stack()])
        moved[optimizer] = sum(
            int((coder.encoder != encoder)[mask].any(1).sum())
            for coder, (encoder, _), mask in zip(one.sae.stack(), before, silent, strict=True)
        )
        if optimizer == "sparse_adam":
            for coder, (_, decoder), mask in zip(one.sae.stack(), before, silent, strict=True):
                assert torch.allclose(coder.decoder[mask], decoder[mask], atol=1e-6)  # normalised again
    assert moved["sparse_adam"] == 0
    assert moved["adam"] > 10
