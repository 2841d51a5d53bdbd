"""The same simulated study through the command that users run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.coverage.design import Scenario
from benchmarks.coverage.measure import OUTCOMES, analysed
from benchmarks.coverage.studies import FILE, Simulated
from harness.cli import main

STUDIES = Path(__file__).parents[2] / "studies"


def same_in_report(scenario: Scenario, rng: np.random.Generator, root: Path) -> bool:
    """Whether `harness report` gives the effects of a results folder the verdicts that `measure` sees in records.

    root: an empty folder, for a workspace with these results.
    """
    simulated = Simulated(scenario, rng)
    _, _, rows = analysed(simulated)
    shutil.copytree(STUDIES / "sources", root / "studies" / "sources")
    shutil.copy(STUDIES / Path(FILE).name, root / FILE)  # whose results these are said to be
    results = root / "results" / Path(FILE).stem
    simulated.write(results, simulated.trained)
    main(["--root", str(root), "report", str(root / FILE), "--step", "tables"])
    effects = pl.read_parquet(results / "tables" / "effects.parquet")
    names = ["axis", "level", "kind", "holding", OUTCOMES[scenario.outcome].verdict]
    kinds = {row["kind"] for row in rows}
    found = [row for row in effects.iter_rows(named=True) if row["kind"] in kinds]
    return [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in rows]
