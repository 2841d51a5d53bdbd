"""Two recipes train the same weights exactly where what decides them (`harness.study.identity`) is the same."""

from dataclasses import replace
from hashlib import sha256

import pytest
import torch

from harness.study.catalogue import INPUTS, members, members_of
from harness.study.identity import decisive
from harness.study.recipe import RECIPE_FIELDS, Recipe
from harness.training.cell import Cell
from harness.training.centring import Centring

WIDTH = 6
# Settings that do nothing in some of the recipes below have another value than their default in all of them.
BASE = Recipe(
    latents=16, k=3, tokens=96, batch=16, lr=0.1, dead_window=1, sparsity=0.1, aux_weight=0.5, k_decay=0.6
)
RECIPES = {
    "adam": BASE,
    "adamw": replace(BASE, optimizer="adamw"),
    "sparse Adam": replace(BASE, optimizer="sparse_adam", layers="dense 2-2"),
    "muon": replace(BASE, optimizer="muon", layers="sparse 2"),
    "soap": replace(BASE, optimizer="soap"),
    "schedule-free Adam": replace(BASE, optimizer="schedule_free_adam", layers="dense 2-2"),
    "signum": replace(BASE, optimizer="signum", inputs="uncentred"),
    "lion": replace(BASE, optimizer="lion", prefixes="0.5", inputs="standardised"),
    "sgd": replace(BASE, optimizer="sgd", layers="dense_encoder 2", inputs="unit_norm"),
    "batchtopk": replace(BASE, sparsifier="batchtopk", k_start=6, inputs="layer_norm"),
    "relu": replace(BASE, sparsifier="relu", k_start=6),
    "jumprelu": replace(BASE, sparsifier="jumprelu"),
    "penalty": replace(BASE, penalty=0.1, k_start=6),
    "linear penalty": replace(BASE, penalty=0.1, penalty_on="linear", k_start=3),
    "penalty at unit norm": replace(BASE, penalty=0.1, penalty_on="relu_at_unit_norm", layers="dense 2-2"),
    "linear penalty at unit norm": replace(BASE, penalty=0.1, penalty_on="linear_at_unit_norm", k_start=3),
    "aux-k": replace(BASE, aux_k=2, resample=16),
    "aux-k without weight": replace(BASE, aux_k=2, aux_weight=0.0, resample=96),
}
VALUES = {
    **{"latents": [17], "k": [4], "tokens": [97, 112], "layers": ["none", "sparse 1", "dense 1-1"]},
    **{"sparsifier": ["topk", "relu"], "sparsity": [0.3], "prefixes": ["none", "0.25"]},
    **{
        "inputs": [*INPUTS],
        "penalty": [0.0, 0.3],
        "penalty_on": ["relu", "linear", "relu_at_unit_norm"],
    },
    **{"aux_k": [None, 3], "aux_weight": [0.0, 0.25], "k_start": [None, 3, 8], "k_decay": [0.3]},
    **{
        "resample": [None, 16, 17, 33],
        "decoder_norm": ["free", "unit_per_dimension"],
        "optimizer": ["sgd"],
        "lr": [0.2],
    },
    **{"weight_decay": [0.5], "batch": [8], "warmup": [0.1, 0.5], "decay": [0.1, 0.4]},
    **{"initial_weights": ["kaiming"]},
    **{"gradient_clip": [None, 0.01], "precision": ["bfloat16"], "dead_window": [33], "seed": [1]},
}
# Where equal weights may count as different ones
FINER = {
    "dead_window": "it decides the training figures of dead latents, too",
    "precision": "rounding that changes no sign does nothing where an optimizer takes the sign",
    "gradient_clip": "a limit that is never reached does nothing, nor does any where an optimizer takes the sign",
}


def data(batch: int) -> torch.Tensor:
    """So far from 0 in one direction that some latents fire for none."""
    x = torch.randn(2 * batch, WIDTH, generator=torch.Generator().manual_seed(0))
    x[:, 0] = x[:, 0].abs() + 1
    return x


def weights(recipe: Recipe) -> str:
    """Stands for the bits of all that is trained."""
    centring = Centring(torch.full((WIDTH,), 0.5), torch.ones(()), torch.linspace(0.5, 2, WIDTH))
    cell = Cell(recipe, WIDTH, torch.device("cpu"), centring)
    x = data(recipe.batch)
    for step in range(recipe.steps):
        cell.step(x[step % 2 :: 2])
    state = cell.sae.state_dict()
    return sha256(b"".join(state[name].contiguous().numpy().tobytes() for name in sorted(state))).hexdigest()


def test_every_member_and_every_field_is_tried():
    assert {m.build for r in RECIPES.values() for m in members_of(r)} == {m.build for m in members()}
    assert VALUES.keys() == RECIPE_FIELDS.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_the_same_weights_exactly_where_what_decides_them_is_the_same(name):
    recipe = RECIPES[name]
    bits = weights(recipe)
    for field, values in VALUES.items():
        for value in values:
            try:
                other = replace(recipe, **{field: value})
            except ValueError:  # one that cannot be trained
                continue
            same = decisive(other) == decisive(recipe)
            if same or field not in FINER:
                assert (weights(other) == bits) == same, f"{field}: {value}"
