"""The shortlist of GPUs against float64: on a GPU if there is one, else by Triton's interpreter (conftest.py)."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.sae import gpu, model, shortlist
from harness.sae.gpu import shortlist as on_gpu
from harness.sae.products import SETTING
from harness.sae.shortlist import top_k_of_product
from harness.training.cell import Cell
from harness.training.precision import float32_products
from tests.training.cells import CENTRING, DATA, WIDTH, recipe

pytest.importorskip("triton", reason="Triton is not installed: the kernels for GPUs are not tested")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, behind the interpreter: overflows
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS, LATENTS, K = 3, 40, 2


@pytest.fixture(autouse=True)
def on_kernels(monkeypatch):
    """What lies on the CPU is taken for a GPU's, where there is none; and small layers have a shortlist."""
    monkeypatch.setattr(gpu, "DEVICES", {DEVICE})
    for name, value in {"LEAST": 1, "WORK": 1, "FEWEST": 8, "ROWS": 4 if DEVICE == "cuda" else 32}.items():
        monkeypatch.setattr(on_gpu, name, value)


@pytest.fixture
def proved(monkeypatch):
    """How many candidates each token of the last call had; 0: it had its product in float32."""
    found, near = [], on_gpu._near

    def kept(*given):
        counts = near(*given)
        found[:] = counts.tolist()
        return counts

    monkeypatch.setattr(on_gpu, "_near", kept)
    return found


def drawn(seed, spread=1.0, tokens=TOKENS, width=24, latents=LATENTS):
    """Rows, weights and biases; with a small spread all pre-activations of a token are nearly equal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, width, generator=generator)
    weight = (spread < 1) * torch.randn(1, width, generator=generator)
    weight = weight + spread * torch.randn(latents, width, generator=generator)
    return x.to(DEVICE), weight.to(DEVICE), (torch.randn(latents, generator=generator) * spread).to(DEVICE)


def assert_exact(x, weight, bias, k=K):
    values, indices = top_k_of_product(x, weight, bias, k)
    exact = x.double() @ weight.double().T + bias.double()
    chosen = exact.gather(1, indices)
    sizes = x.double().norm(dim=1, keepdim=True) * weight.double().norm(dim=1).amax() + bias.double().abs().amax()
    noise = 1e-6 * sizes  # of sums in float32
    assert ((values - chosen).abs() <= noise).all()
    assert all(len(set(row)) == k for row in indices.tolist())
    assert (chosen.amin(1, keepdim=True) >= exact.topk(k, dim=1).values[:, -1:] - 2 * noise).all()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10**6),
    st.sampled_from([1.0, 0.1, 1e-2, 1e-3]),
    st.sampled_from([(1.0, 1.0, 1.0), (1e-6, 1.0, 0.0), (1e3, 1e3, 1.0), (1e5, 1e-7, 1.0), (1.0, 1.0, 1e4)]),
)
def test_the_largest_are_found_even_where_float16_cannot_tell_them_apart(seed, spread, scales):
    """Nor hold them: numbers that become 0 or infinite in it widen the bound."""
    assert_exact(*(part * scale for part, scale in zip(drawn(seed, spread), scales, strict=True)))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 10**6),
    st.sampled_from([1.0, 1e-2]),
    st.floats(-9, 5),
    st.floats(-9, 5),
    st.sampled_from([0.0, 1.0, 300.0]),
)
def test_no_error_of_the_rough_product_is_above_the_bound(seed, spread, of_x, of_weight, of_bias):
    """As the kernels measure it; here without what they add for the rounding of what comes out."""
    x, weight, bias = drawn(seed, spread)
    x, weight, bias = x * 10**of_x, weight * 10**of_weight, bias * of_bias
    rough, (lengths, taken), (longest, most, shift) = on_gpu._rough(x, weight, bias)
    error = taken * longest + (lengths + taken) * most + x.shape[1] * 2.0**-23 * lengths * longest + shift
    exact = x.double() @ weight.double().T + bias.double()
    rough = rough[: len(x)].double()
    ours = 1.001 * error.double()[:, None] + 2.0**-11 * rough.abs() + 2.0**-24
    assert ((rough - exact).abs() <= ours)[error.isfinite() & rough.isfinite().all(1)].all()


def test_ordinary_tokens_are_proved_with_few_candidates(proved):
    assert_exact(*drawn(0))
    assert all(K <= count <= K + 2 for count in proved)


@pytest.mark.parametrize(("tokens", "left"), [(3, 1), (3, 3), (4, 3), (1, 1)])
def test_tokens_without_proof_have_their_products_in_float32(proved, tokens, left):
    """Also where they are more than half."""
    x, weight, bias = drawn(1, tokens=tokens)
    x[-left:] *= 1e6
    assert_exact(x, weight, bias)
    assert [count == 0 for count in proved] == [False] * (tokens - left) + [True] * left


def test_equal_entries_and_too_many_candidates_are_not_proved(proved):
    x, weight, bias = drawn(1)
    weight[:] = weight[0].clone()
    assert_exact(x, weight, bias * 0)
    assert proved == [0, 0, 0]


@pytest.mark.parametrize("shift", [-3, -100, 3e4, 7e4])
def test_shifts_that_float16_rounds_or_cannot_hold(shift):
    x, weight, bias = drawn(2)
    assert_exact(x, weight, bias + shift)


def test_one_long_row_widens_the_bound_and_not_the_error():
    x, weight, bias = drawn(0)
    weight[7] *= 1e3
    assert_exact(x, weight, bias)


@pytest.mark.parametrize(("tokens", "width", "latents", "k"), [(0, 3, 40, 2), (1, 1, 40, 1), (2, 1100, 70, 3)])
def test_odd_sizes(tokens, width, latents, k):
    assert_exact(*drawn(3, tokens=tokens, width=width, latents=latents), k)


def test_rows_of_zeros_and_not_a_number_come_out_as_from_the_whole_product():
    x, weight, bias = drawn(1)
    x[0], x[1, 3] = 0, torch.nan
    values, _ = top_k_of_product(x, weight, bias, K)
    torch.testing.assert_close(values[0].sort().values, bias.topk(K).values.sort().values)
    assert values[1].isnan().all()
    assert not values[2].isnan().any()


def test_a_language_model_beside_it_does_not_meet_its_setting(monkeypatch):
    seen, addmm = [], torch.addmm
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_reduced_precision_reduction

    def watched(*given, **options):
        seen.append((SETTING.locked(), matmul.allow_fp16_reduced_precision_reduction))
        return addmm(*given, **options)

    monkeypatch.setattr(torch, "addmm", watched)
    top_k_of_product(*drawn(7), K)
    assert seen == [(True, False)]
    assert (SETTING.locked(), matmul.allow_fp16_reduced_precision_reduction) == (False, before)


@pytest.mark.parametrize("where", ["weight", "bias"])
def test_a_weight_that_is_not_a_number_is_not_passed_over(where):
    x, weight, bias = drawn(1)
    {"weight": weight[5], "bias": bias[5:6]}[where][0] = torch.nan
    values, indices = top_k_of_product(x, weight, bias, K)
    assert values.isnan().any(1).all()
    assert (indices == 5).any(1).all()


def test_where_it_pays(monkeypatch):
    x = drawn(0)[0]
    assert shortlist.pays(x, LATENTS, K)
    assert not shortlist.pays(x.double(), LATENTS, K)
    assert not shortlist.pays(x, 16, K)  # too few to narrow them down
    with torch.autocast(DEVICE, torch.bfloat16):
        assert not shortlist.pays(x, LATENTS, K)
    monkeypatch.setattr(on_gpu, "LEAST", 64)
    assert not shortlist.pays(x, LATENTS, K)
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "DEVICES", {DEVICE})
    assert not shortlist.pays(x, LATENTS, K)


def test_products_in_tf32_are_taken_as_they_are(monkeypatch):
    x = drawn(0)[0]
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert not shortlist.pays(x, LATENTS, K)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    with float32_products("tf32", torch.device("cpu")):
        assert shortlist.pays(x, LATENTS, K)


def cell(**changes):
    return Cell(recipe(**{"latents": 40, "batch": 2, "k": 2, **changes}), WIDTH, torch.device(DEVICE), CENTRING)


CELLS = [
    {},
    {"layers": "sparse 2", "optimizer": "adamw", "decoder_norm": "free", "k_start": 4},
    {"layers": "dense 2-2", "optimizer": "muon"},
]


@pytest.mark.parametrize("changes", CELLS, ids=lambda changes: " ".join(map(str, changes.values())))
def test_a_cell_learns_the_same_with_a_shortlist(monkeypatch, changes):
    monkeypatch.setattr(on_gpu, "FEWEST", 4)
    cells = []
    for allowed in (True, False):
        if not allowed:
            monkeypatch.setattr(model, "pays", lambda *_: False)
        cells.append(cell(**changes))
        for step in range(2):
            cells[-1].step(DATA[2 * step :][:2].to(DEVICE))
        whole = [part.code.pre_activations is not None for part in cells[-1].code(DATA[:2].to(DEVICE)).coders]
        assert all(whole) if not allowed else not any(whole)
    ours, plain = (dict(one.sae.named_parameters()) for one in cells)
    for name, parameter in ours.items():  # Adam turns gradients that are rounding alone into steps
        torch.testing.assert_close(parameter, plain[name], rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("changes", [{"aux_k": 3, "dead_window": 8}, {"penalty": 0.1}], ids=str)
def test_terms_that_look_through_all_pre_activations_get_them(changes):
    one = cell(**changes)
    assert not one.sae.stack()[0].shortlist
    one.step(DATA[:2].to(DEVICE))
