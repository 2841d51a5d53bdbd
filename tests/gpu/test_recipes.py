"""The other optimizers, norms and inputs in a sweep on a GPU, and a cell that does not fit its memory."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path

import pytest
import torch

from harness.activations.store import ActivationStore
from harness.evaluation.quality import measure
from harness.study.catalogue import INPUTS, OPTIMIZERS
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort
from harness.training.data import Batches, Data
from harness.training.trained_sae import load_sae
from harness.workers.run_cell import run_cell
from tests.conftest import make_workspace
from tests.gpu.commands import ON, cells, figures, harness
from tests.training.cells import recipe

SETTINGS = {
    **{name: f"{{optimizer: {name}, lr: 2.0e-3}}" for name in OPTIMIZERS},
    **{f"inputs {name}": f"{{inputs: {name}}}" for name in INPUTS},
    "original": "{layers: dense 2-2, decoder_norm: unit_per_dimension, initial_weights: kaiming}",
    "free": "{decoder_norm: free, gradient_clip: null}",
    "ReLU": "{sparsifier: relu, sparsity: 0.05}",
    "signs": "{sparsifier: jumprelu, sparsity: 0.1, layers: dense 2-2, precision: tf32}",
}
PACKAGES = {
    "soap": "pytorch_optimizer",
    "lion": "pytorch_optimizer",
    "schedule_free_adam": "schedulefree",
    "signum": "schedulefree",
}
STUDY = """
question: Does every recipe run on this machine?
source: sources/random.yaml
recipe: {latents: 64, k: 4, tokens: 8_000, batch: 128, dead_window: 1_024, lr: 4.0e-3}
axes:
  recipe:
    settings:
"""


def there(name: str) -> bool:
    """Whether the packages that a setting needs are installed."""
    return name not in PACKAGES or importlib.util.find_spec(PACKAGES[name]) is not None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, databases: Path) -> Path:
    """A workspace in which every recipe ran for which the packages are there."""
    root = tmp_path_factory.mktemp("recipes")
    make_workspace(root)
    lines = [f"      {name}: {setting}\n" for name, setting in SETTINGS.items() if there(name)]
    (root / "studies/recipes.yaml").write_text(f"{STUDY.lstrip()}{''.join(lines)}seeds: [0]\nkeep: all\n")
    harness(root, f"run studies/recipes.yaml --workers 1 --device {ON}")
    return root


def test_on_a_cpu_trained_saes_have_the_figures_of_the_tables(root: Path) -> None:
    assert len(figures(root, "recipes")) == sum(map(there, SETTINGS))
    store = root / "data/random/activations"
    data, opened = Data(store, torch.device("cpu")), ActivationStore.open(store)
    x = torch.tensor(opened.read("held_out", 0, opened.tokens("held_out"))).float()
    wrong = {}
    for row in cells(root, "recipes"):
        sae = load_sae(root / row["sae"])
        found = measure(sae, data.held_out)
        with torch.no_grad():  # in the model's own units, without the harness's means
            fvu = float((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum())
        theirs, ours = row["heldout"], (found["fvu"], found["l0"], fvu)
        if ours != pytest.approx((theirs["fvu"], theirs["l0"], theirs["fvu"]), rel=2e-3):
            wrong[row["arm"]["recipe"]] = ours, theirs
    assert not wrong


def test_a_cell_without_enough_memory_is_trained_in_micro_batches(tmp_path: Path, root: Path) -> None:
    if ON == "cpu":
        pytest.skip("a limit of GPU memory")
    data = Data(root / "data/random/activations", torch.device("cuda"))
    large = recipe(latents=2**17, sparsifier="relu", batch=8192, tokens=4 * 8192)  # codes of 4.3 GB
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(4e9 / whole)
    try:
        ends = [ended(tmp_path / "cell", large, data, parts) for parts in (1, 8)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert ends == ["out_of_memory", "done"]


def ended(folder: Path, large: Recipe, data: Data, micro_batches: int) -> str:
    """How a cell ends that is given the batches it asks for."""
    folder.mkdir(exist_ok=True)
    cell = run_cell(folder, large, lambda: data, micro_batches=micro_batches)
    ends: dict[str, str] = {}
    gc.collect()
    torch.cuda.empty_cache()
    batches = Batches(lambda: data, large)
    Cohort({"it": cell}, ends.__setitem__).train(batches.read, 1e9, lambda: None, batches.centred, batches.steps)
    return ends["it"]
