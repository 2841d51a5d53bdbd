"""An optimizer and a sparsifier, added to a copy of the package: a file with their code, and one entry each."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import make_workspace
from tests.sweep.test_sweep import FILES, wait_until, workers_of
from tests.test_layering import PACKAGE

CODE = '''
import torch
from harness.sae.topk import top_k
from harness.sae.support import Support
from harness.sae.sparsifiers import Sparsifier

class Heavy(torch.optim.Optimizer):
    """Gradient descent with a slow and a fast momentum, one after the other."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["fast"], state["slow"] = torch.zeros_like(p), torch.zeros_like(p)
                state["fast"].mul_(0.9).add_(p.grad)
                state["slow"].mul_(0.99).add_(state["fast"], alpha=0.01)
                p.add_(state["fast"] + state["slow"], alpha=-group["lr"])

def heavy(parameters, recipe):
    return [Heavy([p for p, _ in parameters], lr=recipe.peak_lr)]

class Half(Sparsifier):
    """The k largest of each token, at half their values."""

    def select(self, pre_activations):
        entries, indices = top_k(pre_activations, self.k)
        return entries.flatten(), Support.of_rows(indices, pre_activations.shape[1])

    def values(self, active, support):
        return active.relu() / 2
'''
ENTRIES = {
    "optimizers.py": """OptimizerSpec(
            name="heavy", doc="a toy", build="harness.training.toys:heavy", default_lr=1e-2, kept=2, passing=40
        ),""",
    "sparsifiers.py": """SparsifierSpec(
            name="half", doc="a toy", build="harness.training.toys:Half", memory=100.0
        ),""",
}
STUDY = """
recipe: {latents: 64, k: 4, tokens: 19_200, batch: 128, dead_window: 1_024, sparsifier: half}
axes: {optimizer: [heavy]}
seeds: [0]
"""
PREDICTED = """
from harness.study.plan import cost
from harness.study.recipe import Recipe
for changes in ({}, {"optimizer": "heavy"}, {"sparsifier": "half"}):
    price = cost(Recipe(latents=4096, k=4, tokens=10**6, batch=4096, **changes), 512)
    print(price.parameters, price.memory.kept, price.memory.passing)
"""


@pytest.fixture
def package(tmp_path) -> Path:
    """The folder of the copy."""
    copy = shutil.copytree(PACKAGE, tmp_path / "code/harness", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "training/toys.py").write_text(CODE)
    for name, entry in ENTRIES.items():
        path = copy / "study/catalogue" / name
        text = path.read_text()
        assert text.count("= registry(\n    [\n") == 1
        path.write_text(text.replace("    ]\n)\n", f"        {entry}\n    ]\n)\n"))
    return copy.parent


@pytest.mark.chaos
def test_what_is_added_by_one_entry_is_allowed_planned_trained_killed_and_resumed(package, tmp_path, databases):
    environment = {**os.environ, "PYTHONPATH": str(package)}

    def workspace(name: str) -> Path:
        study = make_workspace(tmp_path / name)
        study.write_text("question: Do toys help?\nsource: sources/random.yaml" + STUDY)
        shutil.copytree(databases, tmp_path / name / "runs")
        return tmp_path / name

    def harness(root: Path, *arguments: str, **more) -> subprocess.Popen:
        command = [sys.executable, "-m", "harness", *arguments]
        return subprocess.Popen(command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, **more)

    whole = workspace("whole")
    misspelt = (whole / "studies/small.yaml").read_text().replace("heavy", "heavi")
    (whole / "studies/misspelt.yaml").write_text(misspelt)
    said = harness(whole, "plan", "studies/misspelt.yaml", stderr=subprocess.PIPE)
    assert "'sgd' or 'heavy', got 'heavi'" in said.communicate()[1]
    assert said.returncode == 2
    plan, _ = harness(whole, "plan", "studies/small.yaml").communicate()
    assert "heavy" in plan
    ran = harness(whole, "run", "studies/small.yaml", "--workers", "1")
    ran.communicate()
    assert ran.returncode == 0

    killed = workspace("killed")
    sweep = harness(killed, "run", "studies/small.yaml", "--workers", "1", "--checkpoint-seconds", "0.001")
    wait_until(lambda: list((killed / "runs/cells").glob("*/checkpoints/*")))
    (worker,) = workers_of(sweep)
    os.kill(worker, signal.SIGKILL)
    assert not list((killed / "runs/cells").glob("*/result.json"))
    sweep.communicate()
    assert sweep.returncode == 0
    assert list((killed / "runs/cells").glob("*/retries.json"))
    for name in FILES:
        assert (killed / "results/small" / name).read_bytes() == (whole / "results/small" / name).read_bytes()


def test_what_an_entry_says_of_memory_is_predicted(package):
    command = [sys.executable, "-c", PREDICTED]
    text = subprocess.run(command, cwd=package, capture_output=True, text=True, check=True).stdout
    adam, heavy, half = ([*map(int, line.split())] for line in text.splitlines())
    assert heavy[:2] == adam[:2]  # it keeps as much as Adam
    assert heavy[2] - adam[2] == 39 * 4 * adam[0]  # numbers per parameter, of 4 bytes
    assert half[2] - adam[2] == (100 - 1.5) * 4 * 4096 * 4096  # per pre-activation of a batch
