"""Transcoders in training: a step against plain PyTorch, what is measured, resampled, resumed and kept."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import mse_loss, normalize

from harness import load_sae
from harness.evaluation.quality import measure
from harness.sae.model import CoderOutput, SAEOutput
from harness.sae.sparse import SparseCode
from harness.sae.support import Support
from harness.study.curve import POINTS, Point
from harness.training.backward import backward
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.checkpoint import Checkpoints
from harness.training.cohort import Cohort
from harness.training.metrics import HeldOut, curve_figures
from harness.training.optimizers import build_optimizers
from harness.training.resampling import resample, sources
from harness.training.sae_files import SAEConfig
from harness.training.stream import Batch
from harness.training.trained_sae import TrainedSAE
from harness.training.trainer import Samples, Stopwatch, train
from tests.sae.references import dense
from tests.training.cells import BATCH, CENTRING, DATA, MEAN, ORDER, STEPS, WIDTH, Killed, recipe, rows_of

OUT = 5
WEIGHTS = torch.randn(WIDTH, OUT, generator=torch.Generator().manual_seed(2))
TARGET_MEAN = torch.linspace(2, 3, OUT)
TARGET_CENTRING = Centring(TARGET_MEAN, torch.ones(()), torch.linspace(3, 0.5, OUT))
HELD_OUT_X = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(1))


def computed(x: torch.Tensor) -> torch.Tensor:
    """What the transcoder is to predict: a network of one layer."""
    return (x @ WEIGHTS).relu() - 1


HELD_OUT = HeldOut(HELD_OUT_X, scale=3.0, target=computed(HELD_OUT_X))
SAMPLES = Samples(HELD_OUT, lambda tokens: DATA[:tokens])
REMEDIES = {"k_start": 24, "k_decay": 1.0, "resample": 2 * BATCH, "aux_k": 3, "dead_window": BATCH}
CELLS = [
    {},
    {"layers": "sparse 2", "optimizer": "muon", "inputs": "uncentred", **REMEDIES},
    {"layers": "dense 2-2", "sparsifier": "jumprelu", "prefixes": "0.25-0.5", **REMEDIES},
    {"layers": "sparse 2 each", "sparsifier": "batchtopk", "penalty": 0.1, "optimizer": "schedule_free_adam"},
    {"layers": "dense_encoder 2", "sparsifier": "relu", "penalty": 0.1, "penalty_on": "linear"},
    {"precision": "bfloat16", "layers": "dense 2-2", "penalty": 0.1, "optimizer": "signum"},
]


def transcoder(micro_batches: int = 1, **changes) -> Cell:
    sizes = {"target_width": OUT, "target_centring": TARGET_CENTRING}
    return Cell(recipe(**changes), WIDTH, torch.device("cpu"), CENTRING, micro_batches, **sizes)


def batches(step: int) -> Batch:
    x = DATA[rows_of(ORDER, step)]
    return Batch(x, computed(x))


def measured(cell: Cell) -> SimpleNamespace:
    config = SAEConfig(cell.recipe, CENTRING, TARGET_CENTRING, transcoder=True)
    return SimpleNamespace(**measure(TrainedSAE.of(cell, config), HELD_OUT))


def run(cell: Cell, checkpoints: Checkpoints, stop_at: int | None = None):
    """As `tests.training.cells.run`."""
    points = []

    def beat() -> None:
        if cell.step_index == stop_at:
            raise Killed(points)

    training = train(cell, SAMPLES, checkpoints, points.append, Stopwatch(), POINTS)
    Cohort({"it": training}).train(batches, 0.0 if stop_at else 1e9, beat)
    return measured(cell), points


def first_fvu(curve: list[Point]) -> float:
    """The first held-out FVU of a curve."""
    return next(point["heldout_fvu"] for point in curve if "heldout_fvu" in point)


@pytest.mark.parametrize("inputs", ["centred", "uncentred"])
@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 2"])
def test_a_step_is_that_of_plain_pytorch_in_float64(layers, inputs):
    one = transcoder(layers=layers, inputs=inputs, warmup=0.0, decay=0.0, penalty=0.1, gradient_clip=0.05)
    reference = transcoder(layers=layers, inputs=inputs).sae.double()
    adam = torch.optim.Adam(reference.parameters(), lr=one.recipe.lr)
    x, target = (rows.double() for rows in batches(0))
    if inputs == "uncentred":
        x, target = x + MEAN, target + TARGET_MEAN
    parts = dense(reference, x, target)
    pairs = zip(reference.stack(), parts, strict=True)
    means = [(seen @ coder.encoder.T + coder.bias).relu().mean(0) for coder, (_, seen, _, _) in pairs]
    error = mse_loss(sum(reconstruction for *_, reconstruction in parts), target)
    (error + 0.1 * torch.stack([mean.std() for mean in means]).mean()).backward()
    for decoder in reference.decoders():
        decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
    adam.step()
    for decoder in reference.decoders():
        decoder.data = normalize(decoder.data, dim=1)

    one.step(*batches(0))
    theirs = dict(reference.named_parameters())
    for name, parameter in one.sae.named_parameters():
        assert torch.allclose(parameter.double(), theirs[name], atol=2e-5), name
    figures = one.drain()
    assert figures["fvu"] == pytest.approx(float(error.detach() / target.square().mean()), rel=1e-5)


@pytest.mark.parametrize("changes", CELLS, ids=str)
def test_a_cell_that_is_killed_goes_on_to_the_same_bits(tmp_path, changes):
    whole = transcoder(**changes)
    expected, curve = run(whole, Checkpoints(tmp_path / "whole"))
    checkpoints = Checkpoints(tmp_path / "killed")
    with pytest.raises(Killed):
        run(transcoder(**changes), checkpoints, stop_at=14)
    second = transcoder(**changes)
    second.load_state(checkpoints.load())
    quality, rest = run(second, checkpoints)
    assert quality == expected
    assert rest == [point for point in curve if point["step"] > 14]
    ours, theirs = whole.state(), second.state()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert expected.fvu < first_fvu(curve)


class Replayed:
    """As `harness.training.graph.Graph`: the work reads tensors of its own, into which batches are copied."""

    def __call__(self, work, batch, like) -> None:
        self.places = getattr(self, "places", None) or [x.clone() for x in batch]
        for place, x in zip(self.places, batch, strict=True):
            place.copy_(x)
        work(*self.places)


@pytest.mark.parametrize("changes", CELLS[:3], ids=str)
def test_a_graph_takes_over_the_input_and_the_target(changes):
    plain, captured = transcoder(**changes), transcoder(**changes)
    captured._graph = Replayed()
    for step in range(6):
        plain.step(*batches(step))
        captured.step(*batches(step))
    assert len(captured._graph.places) == 2
    theirs = dict(plain.sae.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in captured.sae.named_parameters())


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 2"])
def test_it_learns_what_it_is_to_predict(tmp_path, layers):
    one = transcoder(layers=layers, tokens=400 * BATCH, lr=2e-2, latents=64, k=8)
    quality, curve = run(one, Checkpoints(tmp_path))
    assert quality.fvu < 0.25 < first_fvu(curve)
    predicted = torch.cat([part.reconstruction[None] for part in one.code(HELD_OUT.x).coders]).sum(0)
    missed = (HELD_OUT.target - predicted.detach()).square().sum()
    spread = (HELD_OUT.target - HELD_OUT.target.mean(0)).square().sum()
    assert quality.fvu == pytest.approx(float(missed / spread), rel=1e-4)
    assert quality.mse == pytest.approx(float(missed) / HELD_OUT.target.numel() * 9, rel=1e-4)
    assert quality.layers[-1]["unexplained"] == pytest.approx(
        float(missed / HELD_OUT.target.square().sum()), rel=1e-4
    )


class FixedTranscoder:
    """Predicts 0 of two numbers from one; its only latent fires always."""

    def __call__(self, x, target):
        code = SparseCode(x[:, 0], x[:, 0], Support.of_rows(torch.zeros(len(x), 1).long(), 1), x)
        nothing = torch.zeros(len(x), 2)
        return SAEOutput(nothing, (CoderOutput(target, x, code, nothing),))


def test_figures_are_those_of_the_target():
    target = torch.tensor([[2.0, 0.0], [2.0, 4.0]])
    fixed = SimpleNamespace(code=FixedTranscoder(), config=SimpleNamespace(recipe=recipe(dead_window=2)))
    quality = SimpleNamespace(**measure(fixed, HeldOut(torch.ones(2, 1), 3.0, target)))
    assert quality.fvu == pytest.approx((4 + 20) / (4 + 4))  # about the mean [2, 2]
    assert quality.nmse == pytest.approx((4 / 4 + 20 / 4) / 2)
    assert quality.mse == pytest.approx(24 / 4 * 9)
    assert quality.layers[0]["unexplained"] == 1


@pytest.mark.parametrize("layers", ["none", "dense 2-1", "sparse 2"])
def test_dead_latents_start_again_from_an_input_and_its_target(layers):
    one = transcoder(layers=layers)
    sae = one.sae
    dead = torch.arange(sae.latents) % 5 == 0
    before = [coder.decoder.detach().clone() for coder in sae.stack()]
    output = sae(*batches(0))
    found = build_optimizers(one.recipe, sae)
    resample(sae, sources(output), dead, found, torch.Generator().manual_seed(0))
    masks = torch.split(dead, [coder.latents for coder in sae.stack()])
    for coder, part, rows, old in zip(sae.stack(), output.coders, masks, before, strict=True):
        inputs, targets = (normalize(rows.detach(), dim=1) for rows in (part.input, part.target))
        tokens = (normalize(coder.encoder[rows], dim=1) @ inputs.T).argmax(1)
        assert torch.allclose(normalize(coder.encoder[rows], dim=1), inputs[tokens], atol=1e-6)
        expected = old[rows] if layers == "dense 2-1" else targets[tokens]  # before decoder layers, none is known
        assert torch.allclose(coder.decoder[rows], expected, atol=1e-6)
        assert torch.equal(coder.decoder[~rows], old[~rows])


@pytest.mark.parametrize("layers", ["dense 2-2", "sparse 2"])
def test_micro_batches_have_the_gradients_of_the_whole(layers):
    made = recipe(penalty=0.3, aux_k=3, aux_weight=0.5, prefixes="0.25-0.5")
    sae = transcoder(layers=layers).sae.double()
    x, target = (rows.double() for rows in batches(0))
    dead, found = torch.arange(sae.latents) % 3 == 0, []
    for parts in (1, 3):
        sae.zero_grad()
        seen = backward(made, sae, x, dead, target=target, micro_batches=parts, keep_sources=True)
        found.append((seen.error, *(p.grad.clone() for p in sae.parameters())))
        assert [source.targets.shape for source in seen.sources] == [(BATCH, OUT)] * len(sae.stack())
    assert all(torch.allclose(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("inputs", ["unit_norm", "layer_norm"])
def test_what_makes_no_sense_is_refused(inputs):
    with pytest.raises(ValueError, match=r"^inputs: expected one of centred, uncentred, standardised, .*_norm'$"):
        transcoder(inputs=inputs)
    with pytest.raises(ValueError, match="expected a target"):
        transcoder().step(DATA[:BATCH])


@pytest.mark.parametrize("inputs", ["centred", "uncentred", "standardised"])
@pytest.mark.parametrize("out", [OUT, WIDTH])
def test_it_is_kept_and_predicts_in_the_models_own_units(tmp_path, inputs, out):
    """From inputs as the model has them to its targets as it has them, with the error that was measured."""
    weights = torch.randn(WIDTH, out, generator=torch.Generator().manual_seed(3))
    source = Centring(torch.linspace(1, 2, WIDTH), torch.tensor(2.0), torch.linspace(0.5, 4, WIDTH))
    wanted = Centring(torch.linspace(-5, 5, out), torch.tensor(0.5), torch.linspace(1, 0.1, out))
    made = recipe(layers="sparse 2", sparsifier="batchtopk", inputs=inputs, lr=1e-2)
    one = Cell(made, WIDTH, torch.device("cpu"), source, 1, out, wanted)
    for step in range(STEPS):
        x = batches(step).input
        one.step(x, (x @ weights).relu())
    with one.evaluating():
        one.calibrate(DATA)
        held_out = HeldOut(HELD_OUT_X, float(wanted.scale), (HELD_OUT_X @ weights).relu())
        curve = curve_figures(one.code, held_out)
    kept = TrainedSAE.of(one, SAEConfig(made, source, wanted, transcoder=True))
    quality = SimpleNamespace(**measure(kept, held_out))
    assert curve["fvu"] == pytest.approx(quality.fvu, rel=1e-6)
    kept.save(tmp_path / "sae")

    loaded = load_sae(tmp_path / "sae")
    raw_x, raw_target = source.restore(held_out.x), wanted.restore(held_out.target)
    predicted = loaded(raw_x)
    assert float((predicted - raw_target).square().mean()) == pytest.approx(quality.mse, rel=1e-4)
    assert torch.allclose(loaded.decode(loaded.encode(raw_x)), predicted, atol=1e-4)
    assert measure(loaded, held_out)["fvu"] == pytest.approx(quality.fvu, rel=1e-6)
    assert loaded.encode(raw_x[0]).shape == (one.sae.latents,)

    about = {"config": SAEConfig(made, source, wanted, transcoder=True).to_tensor()}
    Checkpoints(tmp_path / "checkpoints", about).save(one.step_index, one.state())
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    assert torch.allclose(load_sae(checkpoint)(raw_x), predicted, atol=1e-5)
