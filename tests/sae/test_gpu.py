"""The kernels for GPUs against float64: on a GPU if there is one, else by Triton's interpreter (conftest.py)."""

import subprocess

import pytest
import torch

from harness.sae import gpu
from harness.sae.row_norms import RowNorms
from harness.sae.sparse import normalise_rows, positive_means, project_rows
from harness.sae.squared_error import squared_error
from harness.sae.support import FullSupport, Support
from harness.sae.topk import largest, top_k
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig
from harness.training.trained_sae import TrainedSAE
from tests.training.cells import CENTRING, DATA, WIDTH, recipe

pytest.importorskip("triton", reason="Triton is not installed: the kernels for GPUs are not tested")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def on_kernels(monkeypatch):
    """What lies on the CPU is taken for a GPU's, where there is none."""
    monkeypatch.setattr(gpu, "DEVICES", {DEVICE})


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def near(ours: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(ours.double(), wanted.double(), atol=1e-4, rtol=1e-5)


def ordinary(x):
    return x


def equal(x):
    return x.round()


def zeros(x):
    return x * 0


def not_numbers(x):
    x[0, 5] = x[-1, :10] = torch.nan
    x[-1, 11], x[0, 1] = torch.inf, -torch.inf
    return x


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("made", [ordinary, equal, zeros, not_numbers])
@pytest.mark.parametrize(("batch", "latents", "k"), [(2, 70, 3), (2, 1000, 16), (1, 64, 16)])
def test_the_k_largest_of_each_row_are_exact(batch, latents, k, made, dtype):
    dense = made(numbers(batch, latents)).to(dtype)
    assert gpu.takes_top_k(dense, k)
    values, indices = top_k(dense, k)
    assert torch.equal(values.nan_to_num(9e9), dense.gather(1, indices).nan_to_num(9e9))
    wanted = dense.topk(k, 1).values
    assert torch.equal(values.sort(1, descending=True).values.nan_to_num(9e9), wanted.nan_to_num(9e9))
    assert all(len(set(row)) == k for row in indices.tolist())


def test_of_no_token_and_of_few_latents_there_are_k_largest_too():
    assert top_k(numbers(0, 70), 3)[1].shape == (0, 3)
    assert not gpu.takes_top_k(numbers(2, 10), 3)
    assert top_k(numbers(2, 10), 3)[0].shape == (2, 3)


def test_the_largest_of_a_batch_are_exactly_so_many():
    entries = numbers(1000).round()
    values, places = largest(entries, 37)
    assert len(set(places.tolist())) == 37
    assert torch.equal(entries[places], values)
    assert torch.equal(values.sort(descending=True).values, entries.topk(37).values)


# Some have latents with more entries than one program adds up; the last ones have rows of several blocks.
SHAPES = [
    (5, 11, 0.3, 3),
    (0, 5, 0.5, 4),
    (3, 7, 0.0, 5),
    (140, 3, 0.8, 2),
    (70, 2, 1.0, 2),
    (3, 4, 0.8, 1100),
    (3, 4, 0.8, 4100),
    (2, 3, 0.8, 384),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "latents", "share", "width"), SHAPES)
def test_gathers_are_those_of_the_dense_code(batch, latents, share, width, dtype):
    mask = torch.rand(batch, latents, generator=torch.Generator().manual_seed(1)) < share
    mask[:, 1:2] = False  # a latent that never fires
    mask = mask.to(DEVICE)
    support = Support.of_places(mask.flatten().nonzero()[:, 0], mask.shape)
    values = numbers(len(support.indices))
    code = torch.zeros(batch, latents, dtype=torch.float64, device=DEVICE).masked_scatter(mask, values.double())
    weight, rows = numbers(latents, width).to(dtype), numbers(batch, width).to(dtype)
    assert gpu.usable(weight, rows, values)
    near(support.weighted_rows(values, weight), code @ weight.double())
    near(support.weighted_rows(values, weight, numbers(width)), code @ weight.double() + numbers(width))
    near(support.weighted_tokens(values, rows), code.T @ rows.double())
    for ours, wanted in zip(
        support.weighted_tokens_and_totals(values, rows), (code.T @ rows.double(), code.sum(0)), strict=True
    ):
        near(ours, wanted)
    near(support.inner_products(rows, weight), (rows.double() @ weight.double().T)[mask])
    bias = numbers(latents)
    near(support.inner_products(rows, weight, bias), (rows.double() @ weight.double().T + bias)[mask])
    near(support.totals(values), code.sum(0))
    near(support.fired(values), (code > 0).sum(0))


@pytest.mark.parametrize(("batch", "latents", "k"), [(6, 9, 3), (70, 2, 1), (66, 3, 3), (0, 4, 2)])
def test_where_all_tokens_have_as_many_active_latents_sums_are_the_same(batch, latents, k):
    chosen = torch.rand(batch, latents, generator=torch.Generator().manual_seed(2)).topk(k, 1).indices.to(DEVICE)
    ours = Support.of_rows(chosen, latents)
    other = Support(ours.indices, ours.starts, latents)
    values, weight, rows = numbers(batch * k), numbers(latents, 4), numbers(batch, 4)
    assert torch.equal(ours.weighted_rows(values, weight), other.weighted_rows(values, weight))
    assert torch.equal(ours.weighted_tokens(values, rows), other.weighted_tokens(values, rows))
    assert torch.equal(ours.inner_products(rows, weight), other.inner_products(rows, weight))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("batch", "width"), [(5, 3), (140, 6)])
def test_the_norms_of_a_gradient_come_with_it(across, batch, width):
    weight = torch.nn.functional.normalize(numbers(3, width), dim=1)
    chosen = torch.arange(2 * batch, device=DEVICE).view(batch, 2) % 2  # the third latent never fires
    norms = RowNorms(weight, across=across)
    support = Support.of_rows(chosen, 3)
    gradient = support.weighted_tokens(numbers(2 * batch), numbers(batch, width, seed=1), norms)
    along = (gradient * weight).sum(1)
    rest = gradient - along.unsqueeze(1) * weight if across else gradient
    torch.testing.assert_close(norms.squares, rest.square().sum(1), rtol=1e-4, atol=1e-3)
    if across:
        near(norms.along, along)
    assert norms.are_of(gradient)
    assert not norms.are_of(gradient)  # they are taken once


def test_norms_of_a_gradient_that_something_was_added_to_are_not_its():
    weight = numbers(3, 4)
    norms = RowNorms(weight, across=False)
    support = Support.of_rows(torch.tensor([[0], [2]], device=DEVICE), 3)
    support.weighted_tokens(numbers(2), numbers(2, 4), norms).add_(1)
    gradient = support.weighted_tokens(numbers(2), numbers(2, 4), norms)
    gradient += 1
    assert not norms.are_of(gradient)
    wide = support.weighted_tokens(numbers(2), numbers(2, 4100), norms)  # rows of several blocks
    assert not norms.are_of(wide)


@pytest.mark.parametrize(
    ("changes", "encoder", "decoder"),
    [({}, True, True), ({"aux_k": 3}, False, False), ({"prefixes": "0.25-0.5"}, True, False)],
)
def test_an_update_takes_the_norms_of_gradients_that_have_one_source(monkeypatch, changes, encoder, decoder):
    asked = []
    are_of = RowNorms.are_of
    monkeypatch.setattr(RowNorms, "are_of", lambda norms, p: asked.append(are_of(norms, p)) or asked[-1])
    one = cell(**changes)
    one.step(DATA[:8].to(DEVICE))
    assert asked == [encoder, decoder]


@pytest.mark.parametrize("shape", [(5, 7), (3, 5000), (0, 4)])
@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_an_error_brings_its_gradient_and_the_squares_of_the_target(shape, factor):
    rows, target = numbers(*shape).requires_grad_(), numbers(*shape, seed=1)
    error, squares = squared_error(rows, target)
    (ours,) = torch.autograd.grad(factor * error, rows)
    wanted = torch.nn.functional.mse_loss(rows.double(), target.double())
    (theirs,) = torch.autograd.grad(factor * wanted, rows)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(squares, target.square().sum())
    if len(rows):
        near(error, wanted)


def test_sums_have_gradients_where_they_are_recorded():
    support = Support.of_rows(torch.tensor([[0, 2], [1, 2]], device=DEVICE), 4)
    values, weight = numbers(4).requires_grad_(), numbers(4, 3).requires_grad_()
    scores = numbers(4, seed=1)
    (gradient,) = torch.autograd.grad((support.totals(values) * scores).sum(), values)
    near(gradient, scores[support.indices])
    (gradient,) = torch.autograd.grad(support.weighted_rows(values, weight).sum(), weight)
    near(gradient[:, 0], support.totals(values.detach()))


def test_a_number_that_is_none_reaches_its_own_token_and_latent_alone():
    support = Support.of_rows(torch.tensor([[0, 2], [1, 2]], device=DEVICE), 4)
    values = torch.tensor([1.0, torch.nan, 3.0, 4.0], device=DEVICE)
    rows = support.weighted_rows(values, torch.ones(4, 3, device=DEVICE))
    assert rows.isnan().tolist() == [[True] * 3, [False] * 3]
    sums = support.weighted_tokens(values, torch.ones(2, 3, device=DEVICE))
    assert sums.isnan()[:, 0].tolist() == support.totals(values).isnan().tolist() == [False, False, True, False]


@pytest.mark.parametrize(("rows", "width"), [(3, 5), (2, 5000), (0, 4)])
def test_rows_are_normalised_and_gradients_projected(rows, width):
    weight, gradient = numbers(2, rows, width)
    weight[:1] = 0
    wanted = torch.nn.functional.normalize(weight.double(), dim=1)
    normalise_rows(weight)
    near(weight, wanted)
    before = gradient.double()
    project_rows(gradient, weight)
    near(gradient, before - (before * wanted).sum(1, keepdim=True) * wanted)


@pytest.mark.parametrize("dtype", TYPES)
def test_jumps_of_all_entries_are_those_of_the_selected_ones(monkeypatch, dtype):
    monkeypatch.setattr(gpu, "PART", (4, 8))
    z, gradient = numbers(10, 21).to(dtype), numbers(10, 21, seed=1).to(dtype)
    threshold = numbers(21, seed=2).abs() / 2
    close = ((z - threshold).abs() < 0.1) & (z > 0)
    near(gpu.jump(z, threshold), z * (z > threshold))
    ours, sums = gpu.jump_backward(z, gradient, threshold, 0.2)
    near(ours, gradient * (z > threshold))
    near(sums, (gradient * close).double().sum(0))
    above, beside = gpu.jump_counts(z, threshold, 0.2)
    assert above.tolist() == (z > threshold).sum(0).tolist()
    assert beside.tolist() == close.sum(0).tolist()


@pytest.mark.parametrize("dtype", TYPES)
def test_positive_means_and_their_gradients_are_those_of_torch(monkeypatch, dtype):
    monkeypatch.setattr(gpu, "PART", (4, 8))
    x, weight, bias = (numbers(*shape).requires_grad_() for shape in ((10, 3), (21, 3), (21,)))
    dense = (x @ weight.T + bias).detach().to(dtype)
    ours = positive_means(x, weight, bias, dense)
    near(ours, dense.double().relu().mean(0))
    (grad_bias,) = torch.autograd.grad((ours * numbers(21, seed=3)).sum(), bias)
    near(grad_bias, (dense > 0).double().mean(0) * numbers(21, seed=3))


def test_the_support_of_all_entries_has_the_sums_of_any_other():
    values, weight, rows = numbers(6, 9).relu(), numbers(9, 4), numbers(6, 4)
    support = FullSupport(6, 9, values.device)
    other = Support.of_places(torch.arange(54, device=DEVICE), values.shape)
    flat = values.flatten()
    near(support.weighted_rows(values, weight), other.weighted_rows(flat, weight))
    near(support.weighted_tokens(values, rows), other.weighted_tokens(flat, rows))
    near(support.inner_products(rows, weight).flatten(), other.inner_products(rows, weight))
    near(support.totals(values), other.totals(flat))
    near(support.fired(values), other.fired(flat))
    near(support.first(values, 4)[0], values * (torch.arange(9, device=DEVICE) < 4))
    assert torch.equal(support.dense(values), other.dense(flat))


def cell(**changes):
    """A small one, since Triton's interpreter takes milliseconds for each program."""
    return Cell(recipe(**{"latents": 16, "batch": 8, **changes}), WIDTH, torch.device(DEVICE), CENTRING)


CELLS = [
    {},
    {"layers": "sparse 2", "aux_k": 3, "dead_window": 8, "optimizer": "adamw", "decoder_norm": "free"},
    {"layers": "dense 2-2", "sparsifier": "jumprelu", "penalty": 0.1, "gradient_clip": 1e-3},
    {"sparsifier": "batchtopk", "prefixes": "0.25-0.5", "gradient_clip": None},
    {"sparsifier": "relu", "aux_k": 3, "dead_window": 10**6, "optimizer": "muon"},
    {"layers": "dense 2-2", "aux_k": 5, "aux_weight": 1.0, "dead_window": 8, "optimizer": "muon"},
]


@pytest.mark.parametrize("changes", CELLS, ids=lambda changes: " ".join(map(str, changes.values())))
def test_a_cell_trains_as_on_plain_torch(monkeypatch, changes):
    """Adam with projection, clipping and unit norm in two passes; selection and losses that wait for nobody."""

    def trained():
        one = cell(**changes)
        for step in range(2):
            one.step(DATA[8 * step :][:8].to(DEVICE))
        return one.state(), one.code(DATA[:10].to(DEVICE)).reconstruction

    ours, output = trained()
    monkeypatch.setattr(gpu, "DEVICES", set())
    theirs, wanted = trained()
    near(output, wanted)
    assert ours.keys() == theirs.keys()  # a checkpoint of either can be gone on from
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)


@pytest.mark.parametrize("changes", CELLS, ids=lambda changes: " ".join(map(str, changes.values())))
def test_a_trained_sae_codes_as_on_plain_torch(monkeypatch, changes):
    one = cell(**changes)
    plain = Centring(torch.zeros(WIDTH), torch.tensor(1.0))
    sae = TrainedSAE.of(one, SAEConfig(one.recipe, plain, plain)).to(DEVICE)
    x = DATA[:10].to(DEVICE)
    ours = sae(x), sae.encode(x), sae.decode(sae.encode(x))
    monkeypatch.setattr(gpu, "DEVICES", set())
    for one_of_ours, theirs in zip(ours, (sae(x), sae.encode(x), sae(x)), strict=True):
        near(one_of_ours, theirs)


@pytest.mark.parametrize("sparsifier", ["topk", "jumprelu"])
def test_what_products_in_bfloat16_read_moves_with_the_weights(sparsifier):
    one = cell(precision="bfloat16", sparsifier=sparsifier, resample=16, dead_window=1)
    for step in range(3):  # resampling writes into the weights behind the second one
        one.step(DATA[8 * step :][:8].to(DEVICE))
        one._schedule()
        for coder in one.sae.stack():
            for weight in (coder.encoder, coder.decoder):  # Triton's interpreter rounds towards 0
                torch.testing.assert_close(weight.rounded.float(), weight.detach(), rtol=2**-7, atol=0)


@pytest.fixture
def triton_fails(monkeypatch):
    """Triton, on a GPU that it finds, ends with the error that this is called with."""
    from triton.runtime import driver

    def fail_with(error):
        def active(_):
            raise error

        monkeypatch.setattr(type(driver), "active", property(active))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu.kernels.cache_clear()
    yield fail_with
    gpu.kernels.cache_clear()


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to find C compiler."), subprocess.CalledProcessError(1, ["gcc"])]
)
def test_where_triton_cannot_compile_steps_do_without_and_say_so(triton_fails, error):
    triton_fails(error)
    with pytest.warns(UserWarning, match="Triton cannot compile"):
        assert not gpu.usable(numbers(2, 3))


def test_another_fault_of_triton_is_not_hidden(triton_fails):
    triton_fails(RuntimeError("CUDA error: out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        gpu.kernels()
