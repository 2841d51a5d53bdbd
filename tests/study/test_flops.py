"""The FLOPs of recipes against the products of real training steps, counted by torch."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.sae import native, shortlist
from harness.study.catalogue import OPTIMIZERS
from harness.study.flops import flops_per_token, mean_active
from harness.study.recipe import Recipe
from harness.training.backward import backward
from harness.training.cell import Cell
from harness.training.loss import active_at

WIDTH = 24
BASE = {"latents": 520, "k": 8, "batch": 512, "tokens": 512 * 40}  # more latents than SOAP preconditions
aten = torch.ops.aten


def _bags(weight, indices, *_, **__):
    """embedding_bag of [N, W] by A indices: A rows, weighted."""
    return 2 * indices[0] * weight[1]


def _bag_products(rows, weight, indices, *_, **__):
    return 2 * indices[0] * weight[1]


def _vector(matrix, vector, **_):
    return 2 * matrix[0] * matrix[1]


def _added_vector(bias, matrix, vector, **_):
    return 2 * matrix[0] * matrix[1]


def _qr(matrix, **_):
    return round(8 / 3 * matrix[0] ** 3)


COUNTED = {
    aten._embedding_bag: _bags,
    aten._embedding_bag_forward_only: _bags,
    aten._embedding_bag_per_sample_weights_backward: _bag_products,
    aten.mv: _vector,
    aten.addmv: _added_vector,
    aten.linalg_qr: _qr,
}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Without kernels and shortlists, whose products nobody can count from outside."""
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(shortlist, "has_bfloat16", lambda: False)


def counted(recipe: Recipe, steps: int = 1, width: int = WIDTH, target_width: int | None = None) -> float:
    """FLOPs for each token of `steps` steps, after those that an optimizer needs to get ready."""
    torch.manual_seed(0)
    cell = Cell(recipe, width, torch.device("cpu"), target_width=target_width)

    def step() -> None:
        target = None if target_width is None else torch.randn(recipe.batch, target_width)
        cell.step(torch.randn(recipe.batch, width), target)

    for _ in range(2):
        step()
    cell.last_fired -= recipe.dead_window * torch.arange(cell.sae.latents).remainder(2)  # every other one is dead
    cell.restarted -= recipe.dead_window
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        for _ in range(steps):
            step()
    return counter.get_total_flops() / recipe.batch / steps


PARTS = {
    "shallow": {},
    "dense layers": {"layers": "dense 2-3-3-2"},
    "a dense encoder": {"layers": "dense_encoder 2-1"},
    "stacked sparse layers": {"layers": "sparse 3"},
    "the penalty after ReLU": {"penalty": 0.1},
    "the penalty after ReLU behind dense layers": {"penalty": 0.1, "layers": "dense 2-2"},
    "the penalty after ReLU in stacked layers": {"penalty": 0.1, "layers": "sparse 2"},
    "the penalty before ReLU": {"penalty": 0.1, "penalty_on": "linear", "batch": 32},
    "aux-k": {"aux_k": 32},
    "aux-k behind dense layers": {"aux_k": 32, "layers": "dense 2-2"},
    "aux-k without weight": {"aux_k": 32, "aux_weight": 0.0},
    "prefixes": {"prefixes": "0.25-0.5"},
    "prefixes behind dense layers": {"prefixes": "0.25-0.5", "layers": "dense 2-2"},
    "batch top-k": {"sparsifier": "batchtopk"},
}


@pytest.mark.parametrize("part", PARTS)
def test_what_a_recipe_says_is_what_a_step_computes(part):
    recipe = Recipe(**{**BASE, "dead_window": 10**6, **PARTS[part]})
    assert flops_per_token(recipe, WIDTH) == pytest.approx(counted(recipe), rel=0.02)


@pytest.mark.parametrize("layers", ["none", "dense 2-3-3-2"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_computes_what_its_entry_says(optimizer, layers):
    """In ten steps, since SOAP has new eigenbases in one of them."""
    recipe = Recipe(**{**BASE, "optimizer": optimizer, "lr": 1e-3, "batch": 64, "layers": layers})
    assert flops_per_token(recipe, WIDTH) == pytest.approx(counted(recipe, steps=10), rel=0.02)


def test_a_falling_k_counts_with_its_mean():
    recipe = Recipe(**{**BASE, "k_start": 128, "k_decay": 0.5})
    steps = [active_at(step, recipe) for step in range(recipe.steps)]
    assert mean_active(recipe) == pytest.approx(sum(steps) / len(steps), rel=0.05)
    each = []
    for k in sorted(set(steps)):
        cell = Cell(recipe, WIDTH, torch.device("cpu"))
        cell.sae.set_active(k)
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            backward(recipe, cell.sae, torch.randn(recipe.batch, WIDTH), cell.dead())
        each += [counter.get_total_flops() / recipe.batch] * steps.count(k)
    assert flops_per_token(recipe, WIDTH) == pytest.approx(sum(each) / len(each), rel=0.05)


@pytest.mark.parametrize(
    "more", [{"penalty": 0.1}, {"aux_k": 32}, {"prefixes": "0.5"}, {"optimizer": "soap"}, {"k_start": 64}], ids=str
)
def test_what_costs_more_says_more(more):
    assert flops_per_token(Recipe(**{**BASE, **more}), WIDTH) > flops_per_token(Recipe(**BASE), WIDTH)
