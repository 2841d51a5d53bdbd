"""What is part of a cell's identity: all code that decides its bits and all settings that do, and nothing else."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.activations.store_writer import StoreWriter
from harness.fingerprint import walk
from harness.fingerprint.code import Code
from harness.fingerprint.modules import Module
from harness.study.catalogue import OPTIMIZERS, members, members_of
from harness.study.identity import CUT, ONLY_IF, other_code, reached, roots
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.cohort import Prefetcher
from harness.training.data import Batches, Data
from tests.conftest import make_workspace

PACKAGE = Path(harness.__file__).parent
BASE = Recipe(latents=16, k=3, tokens=96, batch=16, optimizer="adam", lr=0.1, dead_window=20)
RECIPES = {
    "adam": BASE,
    "adamw": replace(BASE, optimizer="adamw"),
    "sparse Adam": replace(BASE, optimizer="sparse_adam", decoder_norm="unit_per_dimension"),
    "muon": replace(BASE, optimizer="muon", inputs="unit_norm"),
    "soap": replace(BASE, optimizer="soap", layers="sparse 2", inputs="layer_norm"),
    "schedule-free": replace(BASE, optimizer="schedule_free_adam", layers="dense 2-2"),
    "signum": replace(BASE, optimizer="signum", inputs="uncentred", precision="bfloat16"),
    "lion": replace(BASE, optimizer="lion", prefixes="0.5", inputs="standardised", initial_weights="kaiming"),
    "sgd": replace(BASE, optimizer="sgd", decoder_norm="free"),
    "batchtopk": replace(BASE, sparsifier="batchtopk"),
    "relu": replace(BASE, sparsifier="relu", sparsity=0.1),
    "jumprelu": replace(BASE, sparsifier="jumprelu", sparsity=0.1),
    "penalty": replace(BASE, penalty=0.1, aux_k=2),
    "linear penalty": replace(BASE, penalty=0.1, penalty_on="linear", k_start=6),
    "penalty at unit norm": replace(BASE, penalty=0.1, penalty_on="relu_at_unit_norm"),
    "linear penalty at unit norm": replace(BASE, penalty=0.1, penalty_on="linear_at_unit_norm"),
    "resampling": replace(BASE, resample=16),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("identity")
    make_workspace(root)
    return root / "data" / "random" / "activations"


def test_every_member_is_in_one_of_these_recipes():
    used = {m.build for recipe in RECIPES.values() for m in members_of(recipe)}
    assert used == {m.build for m in members()}


# What runs and decides nothing: it says which entry of a table a recipe names, or gives what the recipe states.
STATED = ("harness.study.", "harness.training.cell:Cell.__init__.<", "harness.training.trainer:")


@contextmanager
def functions_called() -> Iterator[set[str]]:
    """The package's functions that run within, as `module:name`."""
    found: set[str] = set()

    def look(frame, event, argument):
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(f"{PACKAGE}{os.sep}"):
            module = ".".join(("harness", *Path(file).relative_to(PACKAGE).with_suffix("").parts))
            name = frame.f_code.co_qualname.split(".<locals>")[0]
            if not name.startswith("<"):
                found.add(f"{module.removesuffix('.__init__')}:{name}")

    sys.setprofile(look)
    threading.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def train(recipe: Recipe, data: Data) -> Cell:
    batches = Batches(lambda: data, recipe)
    targets = {"target_width": data.target_width, "target_centring": data.target_centring}
    cell = Cell(recipe, data.width, data.device, data.centring, **targets)
    with Prefetcher(batches.read) as rows:
        for step in range(recipe.steps):
            cell.step(*batches.centred(rows(step)))
    again = Cell(recipe, data.width, data.device, data.centring, **targets)
    again.load_state(cell.state())
    return again


def pairs(folder: Path) -> Path:
    """A store of inputs and targets, for transcoders."""
    folder.mkdir()
    writer = StoreWriter(folder, {"train": 256, "held_out": 64}, 8, "float32", target_width=6)
    random = np.random.default_rng(0)
    for split, tokens in writer.tokens.items():
        for one in (writer, writer.targets):
            one.put(split, np.arange(tokens), random.standard_normal((tokens, one.width)).astype(np.float32))
    writer.finish(hook="in", target_hook="out", model="none", model_fingerprint="none")
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_all_that_runs_while_a_cell_trains_is_in_its_identity(store, name):
    check_all_that_runs(store, RECIPES[name])


@pytest.mark.parametrize("name", ["adam", "penalty", "resampling", "signum"])
def test_all_that_runs_while_a_transcoder_trains_is_in_its_identity(tmp_path, name):
    check_all_that_runs(pairs(tmp_path / "pairs"), RECIPES[name])


def check_all_that_runs(store: Path, recipe: Recipe) -> None:
    with functions_called() as called:
        data = Data(store, torch.device("cpu"))
        train(recipe, data)
    counted = reached(roots(recipe))
    left_out = {function for function in called - counted.keys() if not function.startswith(STATED)}
    assert left_out <= {"harness.training.metrics:HeldOut.__init__"}, left_out
    assert len(called & counted.keys()) > 60


class Edited(Code):
    """The package with one file changed; the others are parsed once for all tests."""

    def __init__(self, folder: Path, file: str, old: str, new: str) -> None:
        super().__init__(PACKAGE)
        copy = shutil.copytree((PACKAGE / file).parent, folder, ignore=lambda at, names: {"__pycache__"})
        text = (PACKAGE / file).read_text()
        assert old in text, (file, old)
        (copy / Path(file).name).write_text(text.replace(old, new, 1))
        path = copy / (Path(file).name if file.endswith(".py") else "__init__.py")
        name = ".".join(("harness", *Path(file).with_name(path.name).with_suffix("").parts))
        self._edited = Module(name.removesuffix(".__init__"), path)

    def module(self, name: str) -> Module:
        return self._edited if name == self._edited.name else UNEDITED.module(name)


UNEDITED = Code(PACKAGE)


def code_in(code: Code, recipe: Recipe) -> dict[str, str]:
    return walk.reached(code, roots(recipe), (*CUT, *ONLY_IF))


@cache
def unedited(name: str) -> dict[str, str]:
    return code_in(UNEDITED, RECIPES[name])


ALL = set(RECIPES)
TOP_K = {name for name, recipe in RECIPES.items() if recipe.sparsifier == "topk"}
FUSED = {name for name, recipe in RECIPES.items() if OPTIMIZERS[recipe.optimizer].fused}
SPREAD = {name for name, recipe in RECIPES.items() if recipe.penalty}
# An edit -> the recipes of which it makes other cells
EDITS = {
    "what is read of a store": ("activations/store.py", "max(start, begin)", "max(start, begin) + 0", ALL),
    "which mean is taken away": (
        "activations/store.py",
        "np.array(self.manifest",
        "0 * np.array(self.manifest",
        ALL,
    ),
    "how activations are centred": ("training/centring.py", ".div_(self.scale)", "", ALL),
    "how targets are centred": ("training/data.py", "self.target_centring.centre(", "self.centring.centre(", ALL),
    "which targets there are": ("activations/store.py", '"targets": None, **given', '"targets": None', ALL),
    "which rows are a batch": ("training/data.py", "order.pieces(step)", "order.pieces(step + 1)", ALL),
    "the order of tokens": (
        "training/stream.py",
        ".permutation(self.tokens)",
        ".permutation(self.tokens)[::-1]",
        ALL,
    ),
    "what a window is": ("activations/store.py", "WINDOW = 262_144", "WINDOW = 65_536", ALL),
    "which window is used": ("training/windows.py", "submit(self._make, number)", "submit(self._make, 0)", ALL),
    "whose batches a cohort sees": (
        "training/data.py",
        ".read(self._recipe, step)",
        ".read(self._recipe, 0)",
        ALL,
    ),
    "which step's batch a cohort sees": ("training/cohort.py", "centred(rows(step,", "centred(rows(0,", ALL),
    "a step": ("training/cell.py", "self.step_index += 1", "self.step_index += 2", ALL),
    "initial weights": (
        "sae/model.py",
        "torch.randn(latents, self.encoder_mlp.width",
        "0 * torch.randn(latents, 1",
        ALL,
    ),
    "a kernel": ("sae/native/rows.h", "return", "return 0 +", ALL),
    "a constant": ("sae/topk.py", "LEAST = 4", "LEAST = 8", ALL),
    "the learning rate": ("training/optimizers.py", "min(1.0, rise, fall)", "min(1.0, rise)", ALL),
    "when latents start again": ("training/loss.py", "2 * step > recipe.steps", "False", ALL),
    "how latents start again": ("training/resampling.py", "SHARE = 0.2", "SHARE = 0.3", {"resampling"}),
    "decoder norms of dimensions": (
        "sae/dimension_norm.py",
        "weight.grad.addcmul_(along, weight, value=-1)",
        "pass",
        {"sparse Adam"},
    ),
    "how they are held": (
        "sae/dimension_norm.py",
        "clamp_min_(1e-12)",
        "clamp_min_(1e-9)",
        {"sparse Adam", "lion"},
    ),
    "other initial weights": ("sae/dimension_norm.py", "* (2 / width)", "* (1 / width)", {"lion"}),
    "lion": ("training/optimizers.py", "[Lion([", "0 * [Lion([", {"lion"}),
    "sparse Adam": ("training/sparse_adam.py", "BETA2 = 0.9, 0.999", "BETA2 = 0.9, 0.99", {"sparse Adam"}),
    "muon": ("optimizers/muon.py", "ITERATIONS = ", "ITERATIONS = 1 + ", {"muon"}),
    "soap's limit": ("study/catalogue/optimizers.py", "512", "256", {"soap"}),
    "how Adam is fused": ("training/fused_adam.py", "BLOCK = 2048", "BLOCK = 1024", FUSED),
    "how Muon is fused": ("optimizers/gram.py", "PARTS = (3,", "PARTS = (2,", {"muon"}),
    "JumpReLU": ("sae/sparsifiers.py", "START, BANDWIDTH = 1.0, 0.2", "START, BANDWIDTH = 1.0, 0.3", {"jumprelu"}),
    "top-k": ("sae/sparsifiers.py", "entries, indices = top_k(", "entries, indices = 0 * top_k(", TOP_K),
    "thresholds": ("sae/calibration.py", "sparsifier.cutoff.zero_()", "pass", {"batchtopk", "jumprelu"}),
    "the spread": ("sae/penalties.py", "m.std() for", "m.var() for", SPREAD),
    "the unit of a penalty": (
        "sae/penalties.py",
        "/ width**0.5",
        "/ width",
        {"penalty at unit norm", "linear penalty at unit norm"},
    ),
    "the spread after ReLU": (
        "sae/penalties.py",
        "positive_means(part.input",
        "0 * positive_means(part.input",
        {"penalty", "penalty at unit norm"},
    ),
    "aux-k": ("sae/penalties.py", "missed = error - ", "missed = error + ", {"penalty"}),
    "aux-k on a GPU": ("sae/gpu/dead.py", "x <= 0.0", "x < 0.0", {"penalty"}),
    "prefixes": ("sae/penalties.py", "max(1, round(share", "max(2, round(share", {"lion"}),
    "inputs of unit norm": ("training/inputs.py", "LEAST = 1e-6", "LEAST = 1e-5", {"muon", "soap"}),
    "held-out figures": ("training/metrics.py", "class HeldOut", "HELD = 1\nclass HeldOut", set()),
    "what is measured": ("training/metrics.py", "EVALUATION_BATCH = ", "EVALUATION_BATCH = 1 + ", set()),
    "known features": (
        "evaluation/known_features.py",
        "import torch",
        "import torch\nraise SystemExit",
        set(),
    ),
    "how many points a curve has": ("study/curve.py", "POINTS = 40", "POINTS = 30", set()),
    "figures of a point": ("training/cell.py", "max(1, self.tokens_summed)", "1", ALL),
    "the score": ("training/trainer.py", "held_out.coded_by(sae.code)", "held_out.coded_by(sae)", ALL),
    "what a terminal shows": ("sweep/display.py", "def update(", "def updated(", set()),
    "what a worker tells": ("workers/worker.py", "BEAT_SECONDS = 0.2", "BEAT_SECONDS = 0.3", set()),
    "what MLflow is told": ("records/mlflow_runs.py", "def finish(", "def finished_with(", set()),
    "how checkpoints are kept": ("training/checkpoint.py", "import", "import this\nimport", set()),
    "a plot": ("analysis/plots/style.py", "import", "import this\nimport", set()),
    "costs": ("study/catalogue/optimizers.py", "passing=1", "passing=2", set()),
    "another optimizer": (
        "study/catalogue/optimizers.py",
        "= registry(\n    [",
        "= registry(\n    [Spec(),",
        set(),
    ),
    "other inputs": ("study/catalogue/inputs.py", "= registry(\n    [", "= registry(\n    [Spec(),", set()),
    "another setting": ("study/recipe.py", "    sparsity: float", "    more: int\n    sparsity: float", set()),
    "a message": ("errors.py", "class UserError", "WHY = 1\nclass UserError", set()),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_makes_other_cells_of_those_that_it_reaches_and_of_no_others(tmp_path, name):
    *change, expected = EDITS[name]
    edited = Edited(tmp_path / "copy", *change)
    assert {n for n in ALL if code_in(edited, RECIPES[n]) != unedited(n)} == expected


def test_what_is_cut_is_there():
    reached(roots(BASE))  # raises ValueError for a name that nothing has
    assert CUT


def test_a_machine_with_other_code_is_told_what_differs():
    here = reached(roots(BASE))
    assert other_code(roots(BASE), here) is None
    assert other_code(roots(BASE), {**here, "harness.training.cell:Cell.step": "?"}) == (
        "harness.training.cell:Cell.step differs"
    )
    others = {name: code for name, code in here.items() if not name.startswith("harness.training.graph")}
    assert str(other_code(roots(BASE), others)).endswith(f" and {len(here) - len(others) - 3} more differ")
    missing = ("harness.training.optimizers:newest",)
    assert other_code(missing, {}) == "expected a definition in harness.training.optimizers, got 'newest'"


def test_identities_need_no_torch():
    code = """if True:
        import sys
        from dataclasses import replace
        from harness.study.identity import cell_id
        from harness.study.recipe import Recipe
        recipe = Recipe(latents=64, k=4, tokens=1024)
        ids = {cell_id(replace(recipe, seed=seed), "source") for seed in range(500)}
        sys.exit("torch" in sys.modules or len(ids) < 500)
    """
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
