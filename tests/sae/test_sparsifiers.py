"""Each sparsifier by hand: what it lets through, what it charges, and what its parameters are told."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.sae.calibration import calibrate
from harness.sae.sparse import SparseCode
from harness.sae.sparsifiers import BatchTopK, JumpReLU
from harness.study.catalogue import SPARSIFIERS
from tests.sae.references import activations, build, dense

PRE = torch.tensor([[5.0, 4.0, 3.0, -1.0], [1.0, 2.0, -2.0, -3.0]])


def code(sparsifier, pre) -> SparseCode:
    active, support = sparsifier.select(pre)
    return SparseCode(sparsifier.values(active, support), active, support, pre)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("topk", [[5.0, 4.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0]]),
        ("batchtopk", [[5.0, 4.0, 3.0, 0.0], [0.0, 2.0, 0.0, 0.0]]),
        ("relu", [[5.0, 4.0, 3.0, 0.0], [1.0, 2.0, 0.0, 0.0]]),
        ("jumprelu", [[5.0, 4.0, 3.0, 0.0], [0.0, 2.0, 0.0, 0.0]]),
    ],
)
def test_what_each_lets_through(name, expected):
    sparsifier = SPARSIFIERS[name].load()(2, 4, 1.5)  # JumpReLU starts at one standard deviation: 1.5
    assert code(sparsifier, PRE).dense().tolist() == expected


def test_top_k_counts_entries_below_zero_and_batch_top_k_takes_none_of_them():
    pre = torch.tensor([[3.0, -1.0, -2.0], [-1.0, -2.0, -3.0]])
    assert len(SPARSIFIERS["topk"].load()(2, 3, 1.0).select(pre)[1].indices) == 4
    batch = SPARSIFIERS["batchtopk"].load()(2, 3, 1.0)
    assert code(batch, pre).dense().tolist() == [[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_batch_top_k_at_evaluation_is_a_threshold_of_its_own():
    sparsifier = BatchTopK(2, 4, 1.0)
    sparsifier.cutoff.fill_(3)
    sparsifier.eval()
    pre = torch.tensor([[2.9, 3.1], [-5.0, 2.9], [7.0, 8.0]])
    assert code(sparsifier, pre).dense().tolist() == [[0.0, pytest.approx(3.1)], [0.0, 0.0], [7.0, 8.0]]
    alone = [code(sparsifier, row[None]).dense() for row in pre]
    assert torch.equal(torch.cat(alone), code(sparsifier, pre).dense())


def test_jumprelus_thresholds_are_multiplied_at_evaluation_and_in_training_they_are_not():
    sparsifier = JumpReLU(2, 4, 1.5)
    sparsifier.cutoff.fill_(2)
    assert code(sparsifier, PRE).dense().tolist() == [[5.0, 4.0, 3.0, 0.0], [0.0, 2.0, 0.0, 0.0]]
    sparsifier.eval()  # 3 is no longer above the threshold
    assert code(sparsifier, PRE).dense().tolist() == [[5.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


@given(st.integers(0, 6), st.integers(2, 20), st.integers(1, 30), st.integers(0, 2**31))
def test_batch_top_k_lets_the_largest_of_the_batch_through(batch, latents, k, seed):
    pre = torch.randn(batch, latents, generator=torch.Generator().manual_seed(seed))
    chosen = code(BatchTopK(k, 4, 1.0), pre).values
    positive = pre[pre > 0].sort(descending=True).values
    assert torch.equal(chosen.sort(descending=True).values, positive[: k * batch])


def test_relu_charges_the_sum_of_a_token():
    sparsifier = SPARSIFIERS["relu"].load()(2, 4, 1.0)
    assert charge(sparsifier, code(sparsifier, PRE)) == (5 + 4 + 3 + 1 + 2) / 2


def test_jumprelu_charges_the_relative_distance_from_k():
    sparsifier = JumpReLU(2, 4, 1.5)  # three fire on the first token and one on the second
    assert charge(sparsifier, code(sparsifier, PRE)) == 0
    sparsifier.k = 4
    assert charge(sparsifier, code(sparsifier, PRE)) == (2 / 4 - 1) ** 2


@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_what_holds_k_by_itself_charges_nothing(name):
    sparsifier = SPARSIFIERS[name].load()(2, 4, 1.0)
    assert charge(sparsifier, code(sparsifier, PRE)) == 0


def charge(sparsifier, code):
    return sparsifier.charge(sparsifier.activity(code))


def near(z, threshold, bandwidth):
    """K((z - threshold) / bandwidth), K the rectangle of width and height 1 around 0."""
    return (((z - threshold) / bandwidth).abs() < 0.5).to(z.dtype)


@pytest.mark.parametrize("layers", ["none", "dense_encoder 2", "sparse 3"])
def test_jumprelus_thresholds_have_the_papers_pseudo_derivatives(layers):
    """Rajamanoharan et al. 2024 (arXiv 2407.14435), equations 11 and 12, on every entry of the dense layer:
    d JumpReLU / d threshold = -threshold / bandwidth K(...), d step / d threshold = -1 / bandwidth K(...)."""
    sae, x = build(layers, "jumprelu").double(), activations(200).double()
    (coder, *_), output = sae.stack(), sae(x)
    part = output.coders[0]
    jump, bandwidth, k = coder.sparsifier, coder.sparsifier.bandwidth, coder.sparsifier.k
    threshold = jump.log_threshold.detach().exp()
    pre = part.input @ coder.encoder.T + coder.bias
    kernel = near(pre, threshold, bandwidth) / bandwidth
    fires = pre > threshold
    assert (kernel.bool() & fires).any()
    assert (kernel.bool() & ~fires).any()

    error_by_code = 2 * (part.reconstruction - part.target) @ coder.decoder.T
    expected = (error_by_code * -threshold * kernel).sum(0) * threshold  # d threshold / d log threshold
    squares = (part.target - part.reconstruction).square().sum()
    assert torch.allclose(torch.autograd.grad(squares, jump.log_threshold, retain_graph=True)[0], expected)

    l0 = fires.double().sum() / len(x)
    cost = charge(jump, part.code)
    assert cost.item() == pytest.approx(float((l0 / k - 1) ** 2))
    expected = 2 * (l0 / k - 1) / k * -kernel.sum(0) / len(x) * threshold
    assert torch.allclose(torch.autograd.grad(cost, jump.log_threshold, retain_graph=True)[0], expected)


def test_what_jumprelu_charges_reaches_the_thresholds_alone():
    sae = build("none", "jumprelu")
    (coder,) = sae.stack()
    (part,) = sae(activations()).coders
    grads = torch.autograd.grad(charge(coder.sparsifier, part.code), list(sae.parameters()), allow_unused=True)
    reached = {name for (name, _), grad in zip(sae.named_parameters(), grads, strict=True) if grad is not None}
    assert reached == {"coders.0.sparsifier.log_threshold"}


@pytest.mark.parametrize("layers", ["none", "dense_encoder 2"])
def test_jumprelu_starts_at_a_standard_deviation_of_the_pre_activations(layers):
    """So about one latent in six fires on the first batch, whatever lies before the sparse layer."""
    from harness.sae.model import build_sae
    from harness.study.catalogue import parse_layers

    encoder = parse_layers(layers).encoder
    generator = torch.Generator().manual_seed(0)
    sae = build_sae(32, 512, 8, encoder=encoder, sparsifier=JumpReLU, generator=generator)
    (part,) = sae(torch.randn(64, 32, generator=generator)).coders
    assert 0.1 < (part.code.values > 0).sum() / (64 * 512) < 0.2


def test_the_reference_and_the_sae_agree_at_evaluation_too():
    sae, x = build("sparse 3", "batchtopk"), activations(64)
    sae.eval()
    calibrate(sae, [x])
    coder = sae.stack()[0]
    (target, seen, _, _), *_ = dense(sae, x)
    pre = seen @ coder.encoder.T + coder.bias
    expected = (pre * (pre > coder.sparsifier.cutoff)).relu() @ coder.decoder + coder.decoder_mlp.bias_out
    assert torch.allclose(sae(x).coders[0].reconstruction, expected, atol=1e-5)
    assert torch.equal(target, x)
