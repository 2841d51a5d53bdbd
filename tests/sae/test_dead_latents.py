"""What dead latents make of the error on a GPU, against the plain code in float64; by Triton's interpreter."""

from copy import deepcopy

import pytest
import torch

from harness.sae import gpu
from harness.sae.dead_latents import takes
from harness.sae.gpu import dead_products
from harness.sae.gpu.dead_products import Tile
from harness.sae.model import SAE
from harness.sae.penalties import aux_k_error
from tests.sae.references import build

pytest.importorskip("triton", reason="Triton is not installed: the kernels for GPUs are not tested")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WIDTH, LATENTS, BATCH = 6, 20, 18


@pytest.fixture(autouse=True)
def on_kernels(monkeypatch):
    """What lies on the CPU is taken for a GPU's, where there is none; products have several tiles."""
    monkeypatch.setattr(gpu, "DEVICES", {DEVICE})
    for tiles in (dead_products.DECODED, dead_products.CODE_GRADIENT, dead_products.ADDED):
        for dtype in tiles:
            monkeypatch.setitem(tiles, dtype, Tile(16, 16, 16, 4, 3))
    monkeypatch.setattr(dead_products, "PLACES", 8)
    monkeypatch.setattr(dead_products, "LISTED", 8)
    monkeypatch.setattr(dead_products, "TOTALS", 4)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def mask(latents: int, count: int) -> torch.Tensor:
    """So many of them, here and there."""
    places = torch.randperm(latents, generator=torch.Generator().manual_seed(2))[:count]
    return torch.zeros(latents, dtype=torch.bool).index_fill(0, places, True).to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "latents", "count", "k"), [(5, 20, 13, 3), (3, 20, 20, 30), (2, 9, 0, 2), (0, 5, 2, 1)]
)
def test_codes_are_the_strongest_of_the_dead(batch, latents, count, k, dtype):
    for made in (numbers(batch, latents), numbers(batch, latents).round()):
        dense, dead = made.to(dtype), mask(latents, count)
        listed = dead_products.listed(dead)
        assert listed.number.item() == count
        assert torch.equal(listed.columns[:count], dead.nonzero()[:, 0].int())
        codes, those = dead_products.strongest(dense, listed, k)[:, :count], dense[:, dead]
        assert torch.equal(codes, those * (codes > 0))
        wanted = those.topk(min(k, count), 1).values.relu().sort(1, descending=True).values
        assert torch.equal(codes.sort(1, descending=True).values[:, :k], wanted)
        assert (codes > 0).sum(1).tolist() == (wanted > 0).sum(1).tolist()


def test_a_number_that_is_none_is_the_strongest():
    dense = numbers(2, 20)
    dense[0, 3] = -torch.nan
    codes = dead_products.strongest(dense, dead_products.listed(mask(20, 20)), 2)
    assert codes.isnan().sum(1).tolist() == [1, 0]
    assert (codes != 0).sum(1).tolist() == [2, 2]


def built(layers: str, target_width: int | None = None) -> SAE:
    """With all pre-activations known, as on a GPU."""
    sae = build(layers, width=WIDTH, latents=LATENTS, target_width=target_width).to(DEVICE)
    for coder in sae.stack():
        coder.shortlist = False
    return sae


def trained(sae, x, dead, k, target=None):
    """The term and the gradients of a loss with it, for x and every parameter."""
    sae, x = deepcopy(sae), x.clone().requires_grad_()
    output = sae(x) if target is None else sae(x, target)
    taken = {DEVICE} == gpu.DEVICES
    assert all(takes(*pair) == taken for pair in zip(sae.stack(), output.coders, strict=True))
    wanted = x if target is None else target
    term = aux_k_error(dead, k)(sae, output)
    ((output.reconstruction - wanted).square().mean() + term).backward()
    return term, [x.grad, *(p.grad for p in sae.parameters())]


def agree(sae, x, dead, k, monkeypatch, target=None):
    term, gradients = trained(sae, x, dead, k, target)
    monkeypatch.setattr(gpu, "DEVICES", set())
    twice = [None if given is None else given.double() for given in (x, target)]
    wanted, theirs = trained(sae.double(), twice[0], dead, k, twice[1])
    torch.testing.assert_close(term.double(), wanted, atol=1e-6, rtol=1e-5)
    for ours, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(ours.double(), other, atol=1e-6, rtol=1e-4)
    return wanted


@pytest.mark.parametrize("layers", ["none", "sparse 2", "dense 2-2"])
@pytest.mark.parametrize(("count", "k"), [(13, 3), (3, 5), (0, 3), (LATENTS, 30)])
def test_the_term_and_its_gradients_are_those_of_the_plain_code(monkeypatch, layers, count, k):
    sae = built(layers)
    term = agree(sae, numbers(BATCH, WIDTH), mask(sae.latents, count), k, monkeypatch)
    assert (term > 0) == (count > 0)


def test_of_a_transcoder_they_are_too(monkeypatch):
    sae = built("sparse 2", 9)
    agree(sae, numbers(BATCH, WIDTH), mask(sae.latents, 11), 3, monkeypatch, numbers(BATCH, 9, seed=1))


def test_without_the_other_gradients_there_is_an_error_and_no_wrong_number():
    sae, x = built("none"), numbers(BATCH, WIDTH)
    term = aux_k_error(mask(LATENTS, 9), 3)(sae, sae(x))
    with pytest.raises(RuntimeError, match="puts gradients into encoder and decoder"):
        term.backward()
