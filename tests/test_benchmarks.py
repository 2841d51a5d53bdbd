"""The benchmarks run and make tables; what they measure is nobody's test."""

import subprocess
import sys

import pytest

from benchmarks import gpu
from benchmarks.turns import Effort

# What a GPU machine that has what a cell imports need not have.
ABSENT = (
    "datasets dvc jinja2 matplotlib mlflow optuna polars psycopg pytest ray schedulefree tokenizers transformers"
)


@pytest.mark.chaos
def test_every_contender_of_ours_makes_its_row():
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "step", "--only", "curve"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| d, latents, k, batch | product | harness | of the product |" in page
    assert "| 32, 256, 8, 256 |" in page
    assert "harness against the dense reference" in page


@pytest.mark.chaos
def test_cells_that_cost_nothing_have_their_records_kept():
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "records"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| Optuna and MLflow on | 20 cells | 40 cells | ratio | restart with 40 |" in page
    assert "| SQLite |" in page


@pytest.mark.chaos
def test_the_section_for_a_gpu_needs_what_a_cell_needs_and_does_with_a_cpu():
    code = f"""if True:
        import runpy, sys
        sys.modules.update(dict.fromkeys({ABSENT.split()}))
        runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
    """
    command = [sys.executable, "-c", code, "--quick", "--only", "gpu"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| d, latents, k, batch |  | float32 | tf32 | bfloat16 |" in page
    assert "| top-k, float32 | the same | the same |" in page
    assert "| ratio (wanted: 0.95) | " in page
    assert "| 3 cells, 32, 256, 8, 256: at once | ms per cell's step |" in page
    for row in ("product alone, ms", "step, ms", "memory at its peak, MiB", "wanted, ms"):
        assert f"| 32, 256, 8, 256 | {row} |" in page
    operators = page.rstrip().partition("| operator |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(operators) == gpu.OPERATORS + 1
    assert any(line.startswith("| aten::") for line in operators)


@pytest.mark.chaos
def test_twelve_cells_on_a_streamed_pass_are_timed_alone_and_beside_the_model():
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--only", "stream", "--seconds", "0.2"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| text to tokens alone, random words | " in page
    assert "| all together, 0.2 s | " in page
    assert "| first window as stored | the same bits |" in page


def test_without_a_gpu_its_section_says_so_in_a_line(monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    said = gpu.section(Effort(rounds=1, steps=1, threads=1), quick=False)
    assert said.startswith("Left out")
    assert said.count("\n") == 1
