"""Cutoffs against a dense search over all pre-activations, and how they are found in batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.sae.calibration import calibrate, needs_calibration
from harness.sae.sparsifiers import Calibrated
from harness.study.catalogue import SPARSIFIERS
from tests.sae.references import activations, behind, build, sparsify
from tests.sae.references import before as before_layers

CALIBRATED = [name for name, spec in SPARSIFIERS.items() if issubclass(spec.load(), Calibrated)]


def calibrated(layers, sparsifier, batches, k=7):
    sae = build(layers, sparsifier, k=k)
    sae.eval()
    return sae, calibrate(sae, batches)


@pytest.mark.parametrize("sparsifier", CALIBRATED)
@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 3"])
def test_cutoffs_are_quantiles_of_all_scores_layer_after_layer(layers, sparsifier):
    x = activations(200)
    sae, found = calibrated(layers, sparsifier, [x])
    for coder, layer in zip(sae.stack(), found, strict=True):
        pre = before_layers(coder, x) @ coder.encoder.T + coder.bias
        jump = sparsifier == "jumprelu"
        scores = pre / coder.sparsifier.log_threshold.exp() if jump else pre
        descending = scores.flatten().sort(descending=True).values
        wanted = 200 * coder.sparsifier.k
        assert descending[wanted - 1] > layer.cutoff > descending[wanted]
        assert layer.l0 == coder.sparsifier.k
        learned = float((sparsify(coder, pre) > 0).sum() / 200)
        assert layer.l0_learned == (pytest.approx(learned, abs=0.02) if jump else None)
        x = x - behind(coder, pre * (scores > layer.cutoff) @ coder.decoder)


@given(st.sampled_from(CALIBRATED), st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(1, 20))
def test_in_any_batches_the_cutoffs_are_those_of_all_tokens_at_once(sparsifier, sizes, k):
    x = activations(sum(sizes) + 1)
    _, whole = calibrated("sparse 2 each", sparsifier, [x], k)
    _, parts = calibrated("sparse 2 each", sparsifier, x.split([*sizes, 1]), k)
    for one, other in zip(whole, parts, strict=True):
        assert other.cutoff == pytest.approx(one.cutoff, rel=1e-3, abs=1e-5)
        assert other.l0 == pytest.approx(one.l0, rel=2e-2)


@pytest.mark.parametrize("sparsifier", CALIBRATED)
def test_where_too_few_pre_activations_are_positive_all_of_them_fire_and_l0_says_so(sparsifier):
    sae = build("none", sparsifier)
    sae.eval()
    coder, x = sae.stack()[0], activations(50)
    coder.bias.data[4:] = -100  # four latents are left, for a k of 7
    (layer,) = calibrate(sae, [x])
    positive = (x @ coder.encoder.T + coder.bias > 0).sum() / len(x)
    assert (layer.cutoff, layer.l0) == (0, pytest.approx(float(positive)))
    assert float((sae(x).coders[0].code.values > 0).sum() / len(x)) == pytest.approx(float(positive))
    assert layer.l0 < 4


@pytest.mark.parametrize("sparsifier", [name for name in SPARSIFIERS if name not in CALIBRATED])
def test_what_has_no_threshold_stays_as_it_is(sparsifier):
    sae = build("sparse 2", sparsifier)
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    assert not needs_calibration(sae)
    assert calibrate(sae.eval(), [activations()]) == []
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
