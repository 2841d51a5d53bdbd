"""A trained SAE by itself: in the language model's own units, saved, loaded, and read from a checkpoint."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import TrainedSAE, load_sae
from harness.errors import UserError
from harness.evaluation.quality import measure
from harness.study.catalogue import INPUTS
from harness.training.centring import Centring
from harness.training.checkpoint import Checkpoints
from harness.training.inputs import TokenStatistics
from harness.training.metrics import HeldOut
from harness.training.optimizers import OPTIMIZERS
from harness.training.sae_files import CONFIG, SAEConfig
from tests.training.cells import DATA, HELD_OUT, MEAN, STD, WIDTH, Killed, cell, recipe, run

POINT = 12  # steps, of 20: one of the points with held-out figures
CENTRING = Centring(2 * MEAN, torch.tensor(2.0), 2 * STD)  # a power of two: back and forth is exact
VARIANTS = {
    "shallow": {},
    "deep": {"layers": "dense 2-2", "penalty": 0.1},
    "stacked": {"layers": "sparse 3-1"},
    "stacked each, one norm": {"layers": "sparse 2 each", "inputs": "unit_norm"},
    "uncentred": {"inputs": "uncentred", "layers": "dense_encoder 2"},
    "unit norm": {"inputs": "unit_norm"},
    "layer norm": {"inputs": "layer_norm", "layers": "sparse 2"},
    "standardised": {"inputs": "standardised", "layers": "dense 2-2"},
    "batch top-k": {"sparsifier": "batchtopk", "layers": "sparse 2"},
    "relu": {"sparsifier": "relu"},
    "jumprelu": {"sparsifier": "jumprelu", "inputs": "unit_norm"},
    "k still falling": {"k_start": 12, "k_decay": 1.0},
    "schedule-free": {"optimizer": "schedule_free_adam"},
    "signum": {"optimizer": "signum", "sparsifier": "jumprelu"},
}


def config(**changes) -> SAEConfig:
    return SAEConfig(recipe(**changes), CENTRING, CENTRING, source="made up", data="d", code="c")


def trained(tmp_path: Path, **changes) -> TrainedSAE:
    one = cell(**changes)
    run(one, Checkpoints(tmp_path / "unused"))
    return TrainedSAE.of(one, config(**changes))


def raw(x: torch.Tensor) -> torch.Tensor:
    """In the language model's own units."""
    return CENTRING.restore(x)


def fvu(sae: TrainedSAE, x: torch.Tensor) -> float:
    """As anybody would measure it, in the language model's own units."""
    error = (x - sae(x)).square().sum(dtype=torch.float64)
    return float(error / (x - x.mean(0)).square().sum(dtype=torch.float64))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_saved_sae_reconstructs_raw_activations_with_the_figure_that_was_measured(changes, tmp_path):
    one = cell(**changes)
    measured, _ = run(one, Checkpoints(tmp_path / "unused"))
    TrainedSAE.of(one, config(**changes)).save(tmp_path / "sae")
    sae = load_sae(tmp_path / "sae")
    assert fvu(sae, raw(HELD_OUT.x)) == pytest.approx(measured.fvu, rel=1e-5)
    again = SimpleNamespace(**measure(sae, HELD_OUT))
    exact = not OPTIMIZERS[one.recipe.optimizer].schedule_free  # these average once more, to rounding
    assert again.fvu == (measured.fvu if exact else pytest.approx(measured.fvu, rel=1e-6))
    assert again.l0 == pytest.approx(measured.l0, rel=0.01)
    assert sae.config == replace(
        config(**changes), tokens=one.tokens, k=one.recipe.k, calibration=one.calibration, input=sae.config.input,
        target=sae.config.target,
    )  # fmt: skip
    assert all(map(torch.equal, sae.config.input, CENTRING))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_encoding_and_decoding_is_reconstructing(changes, tmp_path):
    sae = trained(tmp_path, **changes)
    x = raw(HELD_OUT.x)
    latents = sae.encode(x)
    assert latents.shape == (len(x), sae.sae.latents)
    assert (latents >= 0).all()
    torch.testing.assert_close(sae.decode(latents, sae.token_statistics(x)), sae(x), rtol=1e-4, atol=1e-5)
    inputs = sae.config.recipe.inputs
    if INPUTS[inputs].per_token:
        with pytest.raises(ValueError, match=f"inputs: {inputs}"):
            sae.decode(latents)
    else:
        torch.testing.assert_close(sae.decode(latents), sae(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", INPUTS)
@given(shape=st.lists(st.integers(0, 3), max_size=3), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_activations_have_any_shape_before_their_width(inputs, shape, dtype):
    sae = TrainedSAE.of(cell(inputs=inputs, layers="sparse 2"), config(inputs=inputs, layers="sparse 2"))
    x = torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert sae(x).shape == x.shape
    assert sae(x).dtype == torch.float32
    latents = sae.encode(x)
    assert latents.shape == (*shape, 32)
    statistics = sae.token_statistics(x)
    assert statistics.mean.shape == statistics.norm.shape == (*shape, 1)
    assert sae.decode(latents, statistics).shape == x.shape
    rows = sae(x.reshape(-1, WIDTH))
    torch.testing.assert_close(rows.reshape(x.shape), sae(x))


def test_many_tokens_are_coded_a_part_at_a_time_with_the_same_result(tmp_path, monkeypatch):
    sae = trained(tmp_path, layers="sparse 2")
    x = raw(HELD_OUT.x)
    whole = sae(x), sae.encode(x)
    monkeypatch.setattr("harness.training.trained_sae.BATCH", 37)
    torch.testing.assert_close((sae(x), sae.encode(x)), whole, rtol=1e-5, atol=1e-5)


def test_other_widths_are_refused(tmp_path):
    sae = TrainedSAE.of(cell(), config())
    for call in (sae, sae.encode, sae.token_statistics):
        with pytest.raises(ValueError, match=r"expected a tensor \[..., 8\], got \[5, 9\]"):
            call(torch.zeros(5, 9))
    with pytest.raises(ValueError, match=r"expected a tensor \[..., 32\], got \[\]"):
        sae.decode(torch.zeros(()))
    with pytest.raises(ValueError, match=r"expected norms \[5, 1\], got \[5\]"):
        sae.decode(torch.zeros(5, 32), TokenStatistics(torch.zeros(5, 1), torch.ones(5)))


def test_gradients_reach_activations_and_latents_but_no_weights(tmp_path):
    sae = trained(tmp_path, layers="sparse 2").train()
    assert not sae.training
    x = raw(DATA[:4]).requires_grad_()
    sae(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    latents = sae.encode(raw(DATA[:4])).requires_grad_()
    sae.decode(latents).square().sum().backward()
    assert ((latents.grad != 0) == (latents > 0)).all()
    assert all(p.grad is None and not p.requires_grad for p in sae.parameters())


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_checkpoint_from_the_middle_has_the_figure_of_its_point_of_the_curve(changes, tmp_path):
    checkpoints = Checkpoints(tmp_path, {CONFIG: config(**changes).to_tensor()})
    with pytest.raises(Killed) as killed:
        run(cell(**changes), checkpoints, stop_at=POINT)
    point = killed.value.points[-1]
    assert point["step"] == POINT
    sae = load_sae(tmp_path / f"{POINT:09}.safetensors")
    assert sae.config.tokens == point["tokens"]
    found = SimpleNamespace(**measure(sae, HELD_OUT))  # as many tokens as are behind the point
    assert found.fvu == pytest.approx(point["heldout_fvu"], rel=1e-6)
    assert found.l0 == pytest.approx(point["heldout_l0"], rel=0.01)
    assert fvu(sae, raw(HELD_OUT.x)) == pytest.approx(point["heldout_fvu"], rel=1e-5)
    sae.save(tmp_path / "sae")  # also what is in between can be kept
    assert measure(load_sae(tmp_path / "sae"), HELD_OUT)["fvu"] == found.fvu


def test_a_trained_sae_is_a_copy(tmp_path):
    one = cell()
    sae = TrainedSAE.of(one, config())
    before = sae(DATA)
    one.step(DATA[:32])
    assert torch.equal(sae(DATA), before)


DAMAGE = {
    "no folder": lambda folder: [file.unlink() for file in folder.iterdir()] and folder.rmdir(),
    "no weights": lambda folder: (folder / "sae.safetensors").unlink(),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "torn weights": lambda folder: (folder / "sae.safetensors").write_bytes(b"\0" * 99),
    "a flipped bit": lambda folder: flip(folder / "sae.safetensors"),
    "torn config": lambda folder: (folder / "config.json").write_text('{"format": 1, "recipe"'),
    "config of something else": lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'),
    "a list": lambda folder: (folder / "config.json").write_text("[]"),
    "another format": lambda folder: edit(folder / "config.json", '"format": 1', '"format": 99'),
    "an unknown field": lambda folder: edit(folder / "config.json", '"latents"', '"neurons"'),
    "another recipe": lambda folder: edit(folder / "config.json", '"latents": 32', '"latents": 64'),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_one_line_says_what_is_wrong_with_a_folder(damage, tmp_path):
    folder = tmp_path / "sae"
    TrainedSAE.of(cell(), config()).save(folder)
    load_sae(folder)
    damage(folder)
    with pytest.raises(UserError) as error:
        load_sae(folder)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"PK\x03\x04 a pickle"], ids=["empty", "zeros", "a pickle"])
def test_one_line_says_what_is_wrong_with_a_checkpoint(content, tmp_path):
    path = tmp_path / "000000010.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="expected a whole checkpoint"):
        load_sae(path)


def test_a_checkpoint_that_does_not_say_what_it_is_of_is_refused(tmp_path):
    Checkpoints(tmp_path).save(10, cell().state())
    with pytest.raises(UserError, match="expected a whole checkpoint"):
        load_sae(tmp_path / "000000010.safetensors")


def test_it_is_loaded_where_nothing_but_torch_is_installed(tmp_path):
    for name, changes in {"shallow": {}, "signum": {"optimizer": "signum"}}.items():
        TrainedSAE.of(cell(**changes), config(**changes)).save(tmp_path / name)
    code = """if True:
        import sys
        others = "optuna mlflow dvc pydantic yaml polars rich ray transformers schedulefree pytorch_optimizer"
        sys.modules |= dict.fromkeys(others.split())  # None: whoever imports it gets an ImportError
        from harness import load_sae
        for folder in sys.argv[1:]:
            sae = load_sae(folder)
            assert sae.decode(sae.encode(sae.input_mean)).shape == sae.input_mean.shape
    """
    subprocess.run([sys.executable, "-c", code, tmp_path / "shallow", tmp_path / "signum"], check=True)


def test_where_averaging_needs_a_package_a_line_names_it(tmp_path, monkeypatch):
    changes = {"optimizer": "schedule_free_adam"}
    one = cell(**changes)
    Checkpoints(tmp_path, {CONFIG: config(**changes).to_tensor()}).save(0, one.state())
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(UserError, match="pip install schedulefree"):
        load_sae(tmp_path / "000000000.safetensors")


def test_the_package_imports_nothing_until_it_is_asked():
    code = "import sys, harness; sys.exit('torch' in sys.modules or hasattr(harness, 'nothing'))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_held_out_figures_do_not_depend_on_the_copy(tmp_path):
    one = cell(layers="dense 2-2")
    measured, _ = run(one, Checkpoints(tmp_path / "unused"))
    sae = TrainedSAE.of(one, config(layers="dense 2-2"))
    assert SimpleNamespace(**measure(sae, HeldOut(HELD_OUT.x, 1.0))) == measured
