"""Metrics that massive activations do not decide, held against plain numpy and against FVU, which they do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.evaluation import robust
from harness.sae.model import CoderOutput, SAEOutput
from harness.training.metrics import HeldOut, code_all
from tests.training.cells import CENTRING, STD, WIDTH, cell

TOKENS, MEAN = 640, torch.linspace(-1, 1, WIDTH)
FUNCTIONS = (robust.trimmed_fvu, robust.dimensions_fvu, robust.median_nmse, robust.layer_norm_nmse)


class Noisy:
    """Makes of each value what it was plus noise of a given size, for each token and dimension."""

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise, self.inner = noise, cell()
        self.place = 0

    def code(self, x: torch.Tensor, target: torch.Tensor) -> SAEOutput:
        output = self.inner.code(x)
        noise = self.noise[self.place : self.place + len(x)]
        self.place += len(x)
        (part,) = output.coders
        return SAEOutput(target + noise, (CoderOutput(target, part.input, part.code, target + noise),))


def figures(x: torch.Tensor, noise: torch.Tensor, batch: int = 100) -> dict[str, float]:
    held_out = HeldOut(x, 1.0, mean=MEAN, batch=batch)
    sae = Noisy(noise)
    return {"fvu": fvu(x, noise), **{k: v for f in FUNCTIONS for k, v in f(sae, held_out).items()}}


def fvu(x: torch.Tensor, noise: torch.Tensor) -> float:
    return float(noise.square().sum() / (x - x.mean(0)).square().sum())


def normal(seed: int) -> torch.Tensor:
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_they_are_what_numpy_makes_of_their_definitions():
    x, noise = normal(0) * STD, 0.3 * normal(1)
    found = figures(x, noise)
    rows, errors = x.double().numpy(), noise.double().numpy() ** 2
    squares = (rows - rows.mean(0)) ** 2
    nearest = np.argsort(squares.sum(1), kind="stable")[: int(0.95 * TOKENS)]
    own = rows + MEAN.double().numpy()
    by_token = (own - own.mean(1, keepdims=True)) ** 2
    assert found == pytest.approx(
        {
            "fvu": errors.sum() / squares.sum(),
            "fvu_trimmed": errors[nearest].sum() / (TOKENS * 0.95 * rows[nearest].var(0).sum()),
            "fvu_dimensions": (errors.sum(0) / squares.sum(0)).mean(),
            "nmse_median": np.sort(errors.sum(1) / squares.sum(1))[(TOKENS - 1) // 2],
            "nmse_layer_norm": (errors.sum(1) / by_token.sum(1)).mean(),
        },
        rel=1e-4,
    )


def test_one_dimension_at_1000_times_the_others_decides_fvu_alone():
    """It is reconstructed well, and nothing else is."""
    x, noise = normal(0), normal(1)
    x[:, 5] *= 1000
    noise[:, 5] = 0
    found = figures(x, noise)
    assert found["fvu"] < 1e-4
    assert found["fvu_dimensions"] == pytest.approx((WIDTH - 1) / WIDTH, rel=0.1)


def test_tokens_at_30_times_the_others_decide_fvu_alone():
    """They are reconstructed well, and no others are."""
    x, noise = normal(0), normal(1)
    x[::64] *= 30
    noise[::64] = 0
    found = figures(x, noise)
    assert found["fvu"] < 0.1
    assert found["fvu_trimmed"] == pytest.approx(1, rel=0.1)
    assert found["nmse_median"] == pytest.approx(1, rel=0.2)


def test_a_constant_dimension_does_not_count():
    x, noise = normal(0), 0.3 * normal(1)
    noise[:, 2] = x[:, 2] = 0
    others = [n for n in range(WIDTH) if n != 2]
    expected = (noise.square().sum(0) / (x - x.mean(0)).square().sum(0))[others].mean()
    assert figures(x, noise)["fvu_dimensions"] == pytest.approx(float(expected), rel=1e-4)


def test_for_an_sae_of_layer_normed_tokens_it_is_the_error_of_what_it_sees():
    """Of tokens at norm 1, as the original deep-SAE runs print it; with `unit_norm` it is another number."""
    one, x = cell(inputs="layer_norm"), normal(0)
    held_out = HeldOut(x, 1.0, mean=CENTRING.mean)
    found = robust.layer_norm_nmse(SimpleNamespace(code=one.code), held_out)["nmse_layer_norm"]
    seen = torch.nn.functional.layer_norm(x + CENTRING.mean, (WIDTH,), eps=1e-12) / WIDTH**0.5
    with torch.no_grad():
        missed = seen - one.sae(seen * WIDTH**0.5).reconstruction / WIDTH**0.5
    assert found == pytest.approx(float(missed.square().sum(1).mean()), rel=1e-4)
    unit = robust.layer_norm_nmse(SimpleNamespace(code=cell(inputs="unit_norm").code), held_out)["nmse_layer_norm"]
    assert abs(unit - found) > 0.01


def test_errors_of_dimensions_and_of_tokens_have_one_sum():
    passed = code_all(cell().code, HeldOut(normal(0), 1.0))
    assert float(passed.dimension_errors.sum()) == pytest.approx(float(passed.errors.sum()), rel=1e-5)
