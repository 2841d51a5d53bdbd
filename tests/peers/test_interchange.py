"""SAEs that go to SAELens and sparsify and come back (`make peers`), by these packages' own code."""

import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import load_sae
from harness.training.interchange.formats import write_sae
from tests.training.exported import (
    INPUT,
    SAE_LENS,
    SAES,
    SPARSIFY,
    TARGET,
    TARGET_WIDTH,
    TRANSCODERS,
    WIDTH,
    activations,
    close,
    trained,
)

pytestmark = pytest.mark.peers
SIDE = Path(__file__).with_name("sparsify_side.py")
PYTHON = Path(__file__).parents[2] / ".venv-sparsify" / "bin" / "python"
LATENTS = 40


def written(folder: Path, name: str, target=None, **changes):
    sae = trained(target, **changes)
    write_sae(folder, sae.config, sae.sae.state_dict(), name)
    return sae


def agree(sae, codes: torch.Tensor, reconstruction: torch.Tensor) -> None:
    """On activations in the language model's own units, where some latents fire and the mean is far from 0."""
    x = activations()
    assert (codes > 0).sum() > 0.5 * len(x)
    close(sae.encode(x), codes)
    close(sae(x), reconstruction)


@pytest.mark.parametrize("kind", SAES)
def test_saelens_makes_the_same_of_an_exported_sae(kind, tmp_path):
    from sae_lens import SAE

    sae = written(tmp_path, "sae_lens", **SAES[kind])
    peer = SAE.load_from_disk(tmp_path)
    assert peer.cfg.architecture() == SAE_LENS[kind]
    with torch.no_grad():
        agree(sae, peer.encode(activations()), peer(activations()))


@pytest.mark.parametrize("kind", TRANSCODERS)
def test_saelens_makes_the_same_of_an_exported_transcoder(kind, tmp_path):
    from sae_lens import SAE

    sae = written(tmp_path, "sae_lens", TARGET, **SAES[kind])
    peer = SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        agree(sae, peer.encode(activations()), peer(activations()))


def random_peer(name: str, **settings):
    """One of SAELens' classes with weights of which none is 0."""
    import sae_lens
    from sae_lens.saes import transcoder

    module = sae_lens if hasattr(sae_lens, name) else transcoder
    config = getattr(module, f"{name.removesuffix('SAE')}SAEConfig" if name.endswith("SAE") else f"{name}Config")
    peer = getattr(module, name)(config(d_in=WIDTH, d_sae=LATENTS, **settings))
    draw = torch.Generator().manual_seed(4)
    for parameter in peer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw)
    if hasattr(peer, "threshold"):
        peer.threshold.data.abs_()
    return peer


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("TopKSAE", {"k": 5}),
        ("TopKSAE", {"k": 5, "rescale_acts_by_decoder_norm": True}),
        ("TopKSAE", {"k": 5, "apply_b_dec_to_input": False}),
        ("StandardSAE", {}),
        ("JumpReLUSAE", {}),
        ("JumpReLUSAE", {"apply_b_dec_to_input": False}),
        ("Transcoder", {"d_out": TARGET_WIDTH, "apply_b_dec_to_input": False}),
        ("JumpReLUTranscoder", {"d_out": TARGET_WIDTH, "apply_b_dec_to_input": False}),
    ],
)
def test_an_sae_that_saelens_has_written_is_loaded(name, settings, tmp_path):
    peer = random_peer(name, **settings)
    peer.save_model(tmp_path)
    with torch.no_grad():
        agree(load_sae(tmp_path), peer.encode(activations()), peer(activations()))


def test_a_trained_sae_goes_to_saelens_and_back(tmp_path):
    from sae_lens import SAE

    sae, x = written(tmp_path / "out", "sae_lens"), activations()
    SAE.load_from_disk(tmp_path / "out").save_model(tmp_path / "back")
    close(load_sae(tmp_path / "back")(x), sae(x))


def of_sparsify(what: str, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstructions by sparsify's code, in its own environment."""
    save_file({"x": activations()}, folder.with_suffix(".x"))
    subprocess.run([PYTHON, SIDE, what, folder, folder.with_suffix(".x"), folder.with_suffix(".out")], check=True)
    found = load_file(folder.with_suffix(".out"))
    return found["codes"], found["reconstruction"]


@pytest.mark.parametrize("kind", SPARSIFY)
def test_sparsify_makes_the_same_of_an_exported_sae(kind, tmp_path):
    sae = written(tmp_path / "sae", "sparsify", **SAES[kind])
    agree(sae, *of_sparsify("load", tmp_path / "sae"))


def test_sparsify_makes_the_same_of_an_exported_transcoder(tmp_path):
    sae = written(tmp_path / "sae", "sparsify", INPUT)
    agree(sae, *of_sparsify("load", tmp_path / "sae"))


@pytest.mark.parametrize("what", ["make", "make-transcoder"])
def test_an_sae_that_sparsify_has_written_is_loaded(what, tmp_path):
    made = of_sparsify(what, tmp_path / "sae")
    agree(load_sae(tmp_path / "sae"), *made)
