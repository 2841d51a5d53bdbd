"""The shallow top-k SAE against SAELens' (`make peers`): the same weights make the same codes and reconstructions.

| here | SAELens 6.54, `sae_lens/saes/topk_sae.py` |
|---|---|
| encoder [N, D] | W_enc [D, N], transposed |
| bias [N] | b_enc [N] |
| decoder [N, D] | W_dec [N, D] |
| decoder_mlp.bias_out [D] | b_dec [D] |

Theirs takes b_dec from the input by default (`apply_b_dec_to_input`) and ours does not: that is switched off, or
made up for by b_enc = bias + encoder b_dec. `rescale_acts_by_decoder_norm`, the default of their training, changes
nothing at unit norm. Both select first and apply ReLU to what they selected.
"""

import pytest
import torch

from tests.sae.references import build

pytestmark = pytest.mark.peers
WIDTH, LATENTS, K = 48, 160, 12


def ours(dtype: torch.dtype):
    sae = build("none", width=WIDTH, latents=LATENTS, k=K).to(dtype)
    sae.normalise_decoders()
    return sae


def theirs(sae, name: str, dtype: torch.dtype, **settings):
    import sae_lens

    made, config = getattr(sae_lens, name), getattr(sae_lens, f"{name}Config")
    text = str(dtype).removeprefix("torch.")
    peer = made(config(d_in=WIDTH, d_sae=LATENTS, k=K, dtype=text, device="cpu", **settings))
    (coder,) = sae.stack()
    bias_out = coder.decoder_mlp.bias_out
    shift = coder.encoder @ bias_out if peer.cfg.apply_b_dec_to_input else 0
    with torch.no_grad():
        peer.W_enc.copy_(coder.encoder.T)
        peer.b_enc.copy_(coder.bias + shift)
        peer.W_dec.copy_(coder.decoder)
        peer.b_dec.copy_(bias_out)
    return peer


def inputs(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(500, WIDTH, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", ["TopKSAE", "TopKTrainingSAE"])
def test_the_same_weights_make_the_same_codes_and_reconstructions(name, rescale, subtract, dtype, atol):
    sae, x = ours(dtype), inputs(dtype)
    peer = theirs(sae, name, dtype, apply_b_dec_to_input=subtract, rescale_acts_by_decoder_norm=rescale)
    with torch.no_grad():
        output = sae(x)
        apart = {
            "code": output.coders[0].code.dense() - peer.encode(x),
            "reconstruction": output.reconstruction - peer(x),
        }
    assert output.reconstruction.std() > 0.1
    assert output.coders[0].code.fired().sum() > 0.9 * K * len(x)
    for what, difference in apart.items():
        assert difference.abs().max() < atol, what


def test_the_same_weights_have_the_same_gradients():
    """Of the squared error, through their dense autograd and our sparse products."""
    sae, x = ours(torch.float64), inputs(torch.float64)
    peer = theirs(
        sae, "TopKTrainingSAE", torch.float64, apply_b_dec_to_input=False, rescale_acts_by_decoder_norm=False
    )
    (sae(x).reconstruction - x).square().mean().backward()
    (peer(x) - x).square().mean().backward()
    (coder,) = sae.stack()
    pairs = [
        (coder.encoder, peer.W_enc.grad.T),
        (coder.bias, peer.b_enc.grad),
        (coder.decoder, peer.W_dec.grad),
        (coder.decoder_mlp.bias_out, peer.b_dec.grad),
    ]
    for parameter, grad in pairs:
        assert grad.any()
        assert torch.allclose(parameter.grad, grad, atol=1e-14)
