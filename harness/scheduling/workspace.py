"""Where things lie below one root folder.

data/<source>/   corpus, language model, activations (made by the pipeline)
runs/            what a sweep works with: cells, Optuna's and MLflow's databases
results/<study>/ what came out: tables, figures, report
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.study.cells import fingerprint

TRAINING_CODE = (
    "sae",
    "training",
    "muon.py",
    "ground_truth.py",
    "study/recipe.py",
)  # what decides a cell's bits, below the package


@dataclass(frozen=True)
class Workspace:
    """All paths, from one root."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def storage(self) -> str:
        """Optuna's SQLite database as a URL."""
        return f"sqlite:///{self.runs / 'optuna.db'}"

    @property
    def tracking(self) -> str:
        """MLflow's SQLite database as a URL."""
        return f"sqlite:///{(self.runs / 'mlflow.db').absolute()}"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts."""
        return self.runs / "mlflow_artifacts"

    def cell(self, cell_id: str) -> Path:
        """A cell's folder: shared by all studies that ask for this cell."""
        return self.runs / "cells" / cell_id

    def controller(self, study: str) -> Path:
        """The lock file of a study's controller."""
        return self.runs / f"{study}.lock"

    def asked(self, study: str) -> Path:
        """What the last run of a study was asked for (harness/study/edits.py)."""
        return self.runs / f"{study}.asked.json"

    def results(self, study: str) -> Path:
        return self.root / "results" / study


def code_fingerprint() -> str:
    """Stands for the training code, without comments, docstrings and layout.

    It is part of a cell's identity, so that no cell trained by other code passes for one of this code.
    """
    package = Path(harness.__file__).parent
    paths = [p for part in TRAINING_CODE for p in sorted((package / part).rglob("*.py")) or [package / part]]
    return fingerprint({str(p.relative_to(package)): _meaning(p.read_text(encoding="utf-8")) for p in paths})


def _meaning(source: str) -> str:
    """The syntax tree as text, docstrings left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
