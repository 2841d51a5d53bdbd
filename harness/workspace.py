"""Where things lie below one root folder.

data/<source>/   corpus, language model, activations (made by the pipeline)
runs/            what a sweep works with: cells, Optuna's and MLflow's databases
results/<study>/ what came out: tables, figures, report
"""

from __future__ import annotations

import math
import os
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.databases import records, sqlite_url
from harness.files import write_atomically
from harness.locks import exclusive

# How many records there are of a study
RECORDS = {
    "optuna.db": "SELECT count(*) FROM trials JOIN studies USING (study_id) WHERE study_name = ?",
    "mlflow.db": "SELECT count(*) FROM runs JOIN experiments USING (experiment_id) JOIN tags USING (run_uuid) "
    "WHERE experiments.name = ? AND tags.key IN ('cell', 'study') "  # a report's runs come and go
    "AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'",
}


@dataclass(frozen=True)
class Workspace:
    """All paths, from one root, and where Optuna's and MLflow's databases are."""

    root: Path
    storage_url: str | None = field(default=None, repr=False)  # of Optuna's; default: a file in runs/
    tracking_url: str | None = field(default=None, repr=False)  # of MLflow's; likewise

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def storage(self) -> str:
        """Optuna's database as a URL."""
        return self.storage_url or sqlite_url(self.runs / "optuna.db")

    @property
    def tracking(self) -> str:
        """MLflow's database or server as a URL."""
        return self.tracking_url or sqlite_url((self.runs / "mlflow.db").absolute())

    def databases(self, study: str) -> list[Any]:
        """Tells databases from others that were made again, or that records were deleted from.

        A server is told by its URL, a file of ours by its inode and how many records of the study it has.
        """
        given = {"optuna.db": self.storage_url, "mlflow.db": self.tracking_url}
        return [url or records(self.runs / name, RECORDS[name], study) for name, url in given.items()]

    def owner(self) -> str:
        """Stands for this workspace in databases that others may use, too: made once, and kept in runs/."""
        path = self.runs / "owner"
        if not path.exists():
            with exclusive(self.runs / ".owner.lock", math.inf):  # two studies may start together
                if not path.exists():
                    write_atomically(path, f"{uuid.uuid4().hex[:12]}\n".encode())
        return path.read_text(encoding="utf-8").strip()

    def name(self) -> str:
        """What people know it by."""
        return f"{socket.gethostname()}:{self.root.absolute()}"

    def file(self, path: Path) -> str:
        """A study file as this workspace knows it, however its path is spelled: from the root, without links."""
        return os.path.relpath(path.resolve(), self.root.resolve())

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

    def log(self, study: str) -> Path:
        """What a study's workers write on standard error."""
        return self.runs / f"{study}.log"

    def asked(self, study: str) -> Path:
        """What the last run of a study was asked for (harness/study/edits.py)."""
        return self.runs / f"{study}.asked.json"

    def kept(self, study: str) -> Path:
        """Of which cells a study keeps the trained SAEs (harness/sweep/kept_saes.py)."""
        return self.runs / f"{study}.kept.json"

    def latents(self, study: str) -> Path:
        """What a study found about the latents of its SAEs, one folder per cell (harness/sweep/latents.py)."""
        return self.runs / f"{study}.latents"

    def finished(self, study: str) -> Path:
        """What Optuna and MLflow were told when a study was last finished."""
        return self.runs / f"{study}.finished"

    def results(self, study: str) -> Path:
        return self.root / "results" / study
