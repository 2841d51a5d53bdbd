"""SAEs in the formats of other packages, and back: tests/peers asks these packages themselves."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import TrainedSAE, load_sae
from harness.errors import UserError
from harness.training.interchange.formats import FORMATS, format_of, refusal, write_sae
from tests.training.exported import (
    INPUT,
    SAE_LENS,
    SAES,
    SPARSIFY,
    TARGET,
    TARGET_WIDTH,
    TRANSCODERS,
    activations,
    close,
    trained,
)

BOTH = [("sae_lens", name) for name in SAES] + [("sparsify", name) for name in SPARSIFY]


def write(sae: TrainedSAE, folder, name: str) -> None:
    write_sae(folder, sae.config, sae.sae.state_dict(), name)


@pytest.mark.parametrize(("name", "kind"), [*BOTH, ("harness", "topk")])
def test_an_sae_comes_back_with_the_same_codes_and_reconstructions(name, kind, tmp_path):
    sae, x = trained(**SAES[kind]), activations()
    write(sae, tmp_path, name)
    back = load_sae(tmp_path)
    assert format_of(tmp_path) == name
    latents = sae.encode(x)
    assert (latents > 0).sum() > 0.5 * len(x)
    close(back.encode(x), latents)
    close(back(x), sae(x))
    assert (sae(x) - x).abs().max() > 1  # what it gets wrong is far above rounding
    assert back.config.package == {"sae_lens": "SAELens"}.get(name, name)


@pytest.mark.parametrize("kind", TRANSCODERS)
def test_so_does_a_transcoder(kind, tmp_path):
    sae, x = trained(TARGET, **SAES[kind]), activations()
    write(sae, tmp_path, "sae_lens")
    back = load_sae(tmp_path)
    assert back(x).shape == (len(x), TARGET_WIDTH)
    assert (sae.encode(x) > 0).any()
    close(back.encode(x), sae.encode(x))
    close(back(x), sae(x))
    assert refusal(sae.config, "sparsify") == f"sparsifier: {kind}: sparsify has top-k only"


def test_so_does_a_top_k_transcoder_of_one_width_in_sparsify(tmp_path):
    sae, x = trained(INPUT), activations()
    write(sae, tmp_path, "sparsify")
    close(load_sae(tmp_path)(x), sae(x))
    assert json.loads((tmp_path / "cfg.json").read_text())["transcode"] is True


def test_what_has_been_read_can_be_written_in_all_formats(tmp_path):
    sae, x = trained(), activations()
    write(sae, tmp_path / "first", "sparsify")
    read = load_sae(tmp_path / "first")
    for name in FORMATS:
        write(read, tmp_path / name, name)
        close(load_sae(tmp_path / name)(x), sae(x))
    assert load_sae(tmp_path / "harness").config.package == "sparsify"


REFUSED = [
    ("sae_lens", {"layers": "dense 2-2"}, "layers: dense 2-2: "),
    ("sparsify", {"layers": "sparse 2"}, "layers: sparse 2: "),
    ("sae_lens", {"inputs": "unit_norm"}, "inputs: unit_norm: "),
    ("sparsify", {"sparsifier": "jumprelu"}, "sparsifier: jumprelu: sparsify has top-k only"),
]


@pytest.mark.parametrize(("name", "changes", "line"), REFUSED)
def test_an_architecture_that_they_lack_is_refused_before_anything_is_written(name, changes, line, tmp_path):
    sae = trained(**changes)
    with pytest.raises(UserError, match=line):
        write(sae, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_top_k_transcoders_fit_neither_package():
    sae = trained(TARGET)
    assert refusal(sae.config, "sae_lens") == "sparsifier: topk: SAELens has no top-k transcoders"
    assert refusal(sae.config, "sparsify") == "target: sparsify has transcoders of one width only, not from 8 to 6"


DAMAGED = [
    ("sae_lens", {"architecture": "gated"}, "architecture: expected one of topk, standard"),
    ("sae_lens", {"normalize_activations": "layer_norm"}, "normalize_activations: expected 'none'"),
    ("sae_lens", {"k": None}, "k: expected int, got None"),
    ("sae_lens", {"k": 32}, "k: expected less than latents"),
    ("sparsify", {"activation": "groupmax"}, "activation: expected 'topk', got 'groupmax'"),
    ("sparsify", {"skip_connection": True}, "skip_connection: expected False, got True"),
]


@pytest.mark.parametrize(("name", "changes", "line"), DAMAGED)
def test_a_configuration_without_a_counterpart_is_one_line(name, changes, line, tmp_path):
    write(trained(), tmp_path, name)
    config = tmp_path / "cfg.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(UserError, match=line) as failure:
        load_sae(tmp_path)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("name", "file"), [("sae_lens", "sae_weights.safetensors"), ("sparsify", "sae.safetensors")]
)
def test_damaged_weights_are_one_line(name, file, tmp_path):
    write(trained(), tmp_path, name)
    weights = load_file(tmp_path / file)
    for changed, line in [
        ({**weights, "b_dec": torch.zeros(3)}, "shapes fit each other"),
        ({**weights, "W_skip": torch.zeros(3)}, "W_skip: SAEs with this tensor have no counterpart"),
        ({name: tensor for name, tensor in weights.items() if name != "b_dec"}, "expected a tensor b_dec"),
    ]:
        save_file(changed, tmp_path / file)
        with pytest.raises(UserError, match=line):
            load_sae(tmp_path)
    (tmp_path / file).write_bytes(b"no tensors")
    with pytest.raises(UserError, match=file):
        load_sae(tmp_path)


def test_files_from_before_saelens_6_are_read(tmp_path):
    """Their configuration names the activation function, and no architecture."""
    sae, x = trained(), activations()
    write(sae, tmp_path, "sae_lens")
    path = tmp_path / "cfg.json"
    config = json.loads(path.read_text())
    old = {name: config[name] for name in ("d_in", "d_sae", "dtype", "apply_b_dec_to_input")}
    path.write_text(json.dumps(old | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": config["k"]}}))
    close(load_sae(tmp_path)(x), sae(x))


def test_a_scale_for_each_dimension_is_folded_too(tmp_path):
    """As `Centring` may have it: whatever broadcasts over [D]."""
    sae, x = trained(), activations()
    scale = torch.linspace(1, 5, len(INPUT.mean))
    centring = INPUT._replace(scale=scale)
    other = TrainedSAE(sae.sae, replace(sae.config, input=centring, target=centring))
    for name in ("sae_lens", "sparsify"):
        write(other, tmp_path / name, name)
        close(load_sae(tmp_path / name)(x), other(x))


def test_architectures_are_named_as_saelens_names_them(tmp_path):
    for kind, architecture in SAE_LENS.items():
        write(trained(**SAES[kind]), tmp_path / kind, "sae_lens")
        config = json.loads((tmp_path / kind / "cfg.json").read_text())
        assert config["architecture"] == architecture
        assert config["metadata"]["hook_name"] == "transformer.h.0"
