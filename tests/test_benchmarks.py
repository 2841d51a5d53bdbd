"""The benchmarks run and make tables; what they measure is nobody's test."""

import subprocess
import sys


def test_every_contender_of_ours_makes_its_row():
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "step", "--only", "curve"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| d, latents, k, batch | product | harness | of the product |" in page
    assert "| 32, 256, 8, 256 |" in page
    assert "harness to the dense reference" in page


def test_cells_that_cost_nothing_have_their_books_kept():
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "ledger"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| Optuna and MLflow on | of 20 | of 40 | ratio | a restart of the larger |" in page
    assert "| SQLite |" in page
