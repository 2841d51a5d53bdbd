"""A metric that is one function and one row: kept SAEs are measured by it, and nothing is trained."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.test_layering import PACKAGE

pytestmark = pytest.mark.chaos

NAME, LABEL = "first_bias", "the first decoder's largest bias"
FUNCTION = """
import os, pathlib, signal, time

def measure(sae, held_out):
    once = pathlib.Path("killed once")
    if not once.exists():  # in the middle of the measurements, with all that the sweep's processes are
        once.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return {"first_bias": float(sae.sae.stack()[0].bias.max())}
"""
ROW = f"""
METRICS = (*METRICS, Metric(
    "{NAME}", "{LABEL}", axis="{LABEL}", definition="as the label says", change="points", better="lower",
    bounds=(None, None), optional="where it was measured", measured_by="harness.evaluation.added:measure",
))
"""
# Makes training impossible in every process.
NO_TRAINING = """
import sys
if any("harness.workers.worker" in argument for argument in sys.orig_argv):
    from harness.training.cell import Cell
    def step(self, x):
        raise AssertionError("a training step was taken")
    Cell.step = step
"""


class Workspace:
    """A finished study, and a package with one more metric."""

    def __init__(self, root: Path, finished: Path) -> None:
        self.root = shutil.copytree(finished, root / "workspace")
        self.package = root / "package"
        shutil.copytree(PACKAGE, self.package / "harness", ignore=shutil.ignore_patterns("__pycache__"))
        (self.package / "harness" / "evaluation" / "added.py").write_text(FUNCTION)
        (self.package / "sitecustomize.py").write_text(NO_TRAINING)
        with (self.package / "harness" / "metrics" / "__init__.py").open("a") as table:
            table.write(ROW)

    def harness(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of that package on the small study."""
        command = [sys.executable, "-m", "harness", arguments[0], "studies/small.yaml", *arguments[1:]]
        environment = {**os.environ, "PYTHONPATH": str(self.package)}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    def trained(self) -> dict[Path, bytes]:
        """What training has left of each cell."""
        files = [*self.root.glob("runs/cells/*/result.json"), *self.root.glob("runs/cells/*/curve.jsonl")]
        return {path: path.read_bytes() for path in files}

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.root / "results/small/cells.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, undisturbed) -> Workspace:
    """In which `harness evaluate` was killed in the middle, and run again."""
    made = Workspace(tmp_path_factory.mktemp("new_metric"), undisturbed)
    before, rows = made.trained(), made.rows()
    killed = made.harness("evaluate", "--workers", "1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    said = made.harness("evaluate", "--workers", "1")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "4 cells are not measured, since their SAEs were not kept" in said.stdout
    assert made.trained() == before
    added = [{**row, "heldout": {n: v for n, v in row["heldout"].items() if n != NAME}} for row in made.rows()]
    assert [{n: v for n, v in row.items() if n != "not_measured"} for row in added] == rows
    return made


def test_kept_saes_are_measured_and_of_the_others_is_said_that_they_are_not(workspace):
    """The study has tuning seeds: of its eight cells it keeps the four that it reports."""
    for row in workspace.rows():
        kept = row["sae"] is not None
        assert (NAME in row["heldout"]) == kept
        assert row.get("not_measured") == (None if kept else [NAME])
    assert sum(row["sae"] is not None for row in workspace.rows()) == 4


def test_plan_says_what_training_the_others_again_would_cost(workspace):
    said = " ".join(workspace.harness("plan").stdout.split())
    assert "4 cells are not measured and their SAEs were not kept: training them again" in said
    assert "cells to measure" not in said


def test_tables_figures_report_and_mlflow_show_it(workspace):
    said = workspace.harness("report")
    assert said.returncode == 0, said.stderr
    results = workspace.root / "results/small"
    cells = pl.read_csv(results / "tables/cells.csv")
    assert set(cells.filter(pl.col(NAME).is_null())["not_measured"]) == {NAME}
    assert cells[NAME].null_count() == 4
    for table in ("arms", "seeds"):
        assert pl.read_parquet(results / f"tables/{table}.parquet")[NAME].null_count() == 0
    effects = pl.read_parquet(results / "tables/effects.parquet")
    best = effects.filter(pl.col("kind") != "equal")  # the tuning cells, which were not kept, are in these
    assert best[f"{NAME}_points"].null_count() == 0
    assert LABEL.replace("'", "&#39;") in (results / "report.html").read_text()
    assert f"4 cells: not measured: {NAME}." in " ".join((results / "report.html").read_text().split())

    from harness.records.mlflow_client import open_client, search
    from harness.workspace import Workspace as Files

    client = open_client(Files(workspace.root).tracking)
    runs = search(client, client.get_experiment_by_name("small").experiment_id, "tags.kind = 'cell'")
    known = {run.data.tags["cell"]: run.data.metrics.get(f"final/{NAME}") for run in runs}
    assert known == {row["cell"]: row["heldout"].get(NAME) for row in workspace.rows()}
