"""The benchmarks run and make tables; what they measure is nobody's test."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_bits, gpu_cohorts
from benchmarks.shape import QUICK, Shape
from benchmarks.turns import Effort
from harness.sae.gpu import shortlist
from harness.training import graph
from harness.training.cell import Cell

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


ONCE = Effort(rounds=1, steps=1, threads=1)


class TooSmall:
    """A GPU that has no room for more than 256 latents."""

    def __new__(cls, recipe, *args) -> Cell:
        if recipe.latents > 256:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 is full")
        return Cell(recipe, *args)


@pytest.mark.chaos
def test_a_size_that_a_gpu_has_no_room_for_takes_no_other_from_the_table(monkeypatch):
    monkeypatch.setattr(gpu, "Cell", TooSmall)
    page = gpu.by_precision((*QUICK, Shape(32, 512, 8, 256)), ONCE, torch.device("cpu"))
    steps = [line for line in page.splitlines() if "| step, ms |" in line]
    assert [line.count("OutOfMemoryError: CUDA out of memory.") for line in steps] == [0, 3]


def test_a_recipe_that_fails_takes_no_other_from_the_table(monkeypatch):
    recipes = {"top-k": {}, "large": {"latents": 512}}
    monkeypatch.setattr(gpu_bits, "RECIPES", recipes)
    monkeypatch.setattr(gpu_bits, "LATENTS", 256)
    monkeypatch.setattr(gpu_bits, "Cell", TooSmall)
    usual = shortlist.WORK
    page = gpu_bits.bits(torch.device("cpu"), quick=True)
    assert usual == shortlist.WORK  # which the tables after this one go by
    assert "| top-k | the same | the same |" in page
    assert "| large | OutOfMemoryError: CUDA out of memory." in page


def test_tables_are_on_the_page_as_soon_as_they_are_made(monkeypatch, tmp_path):
    """A machine that is lent for some minutes may be taken back before the last one."""

    def interrupted(*_, **__) -> str:
        raise KeyboardInterrupt

    page = tmp_path / "gpu.md"
    asked = ["gpu", "--quick", "--only", "steps", "--only", "bits", "--out", str(page)]
    monkeypatch.setattr(sys, "argv", asked)
    monkeypatch.setattr(gpu, "by_precision", lambda *_: "the first table\n")
    monkeypatch.setattr(gpu_bits, "bits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    assert "the first table" in page.read_text()


def test_the_page_of_another_gpu_stays(monkeypatch, tmp_path):
    """The estimates of `harness plan` go by it, and tests hold them against it."""
    page, own = tmp_path / "gpu.md", tmp_path / "gpu_a_cpu.md"
    page.write_text("Measured 2026-11-26 on NVIDIA H200, torch 2.11.0.\n")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--quick", "--only", "steps", "--out", str(page)])
    for figures in ("first", "second"):
        monkeypatch.setattr(gpu, "by_precision", lambda *_, figures=figures: figures)
        gpu.main()
        assert figures in own.read_text()
    assert "NVIDIA H200" in page.read_text()
    page.unlink()
    gpu.main()
    assert "on a CPU, torch" in page.read_text()


def test_without_a_gpu_the_page_of_another_machine_stays(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    page = tmp_path / "gpu.md"
    page.write_text("measured on a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(page)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert "torch finds no GPU" in capsys.readouterr().err
    assert page.read_text() == "measured on a GPU"


def test_no_graphs_of_before_are_in_the_memory_of_what_is_measured(monkeypatch, tmp_path):
    forgotten: list[str] = []
    monkeypatch.setattr(graph, "_anchor", SimpleNamespace(cache_clear=lambda: forgotten.append("pools")))
    gpu.by_precision(QUICK, ONCE, torch.device("cpu"))
    assert len(forgotten) == 6  # steps and products in three precisions
    trial = gpu_cohorts.QUICK
    gpu_cohorts._cohort(trial, gpu_cohorts._data(trial, tmp_path / "store", torch.device("cpu")), at_once=1)
    assert len(forgotten) == 7


def test_kernels_of_evaluation_are_compiled_before_small_cells_are_timed(monkeypatch, tmp_path):
    """A machine is new when this runs, and Triton's cache empty."""
    done: list[str] = []

    def noted(name, function):
        return lambda *given, **named: (done.append(name), function(*given, **named))[1]

    monkeypatch.setattr(gpu_cohorts, "curve_point", noted("evaluated", gpu_cohorts.curve_point))
    monkeypatch.setattr(gpu_cohorts, "_cohort", noted("timed", gpu_cohorts._cohort))
    gpu_cohorts.at_once(gpu_cohorts.QUICK, tmp_path / "store", torch.device("cpu"), 1.0)
    assert done == ["evaluated", "timed"]


def test_cells_of_one_row_are_gone_when_the_next_ones_are_made(monkeypatch):
    class Weights:
        def state(self) -> dict[str, torch.Tensor]:
            return {"weight": torch.zeros(1)}

    left: list[int] = []
    made: weakref.WeakSet[Weights] = weakref.WeakSet()

    def cohort(*_, **__) -> gpu_cohorts.Run:
        gc.collect()
        left.append(len(made))
        one = Weights()
        made.add(one)
        return gpu_cohorts.Run(1.0, 1.0, None, {"cell 0": one})

    monkeypatch.setattr(gpu_cohorts, "_cohort", cohort)
    monkeypatch.setattr(gpu_cohorts, "_alone", lambda *_: 1.0)
    monkeypatch.setattr(gpu_cohorts, "_data", lambda *_: None)
    page = gpu_cohorts.at_once(gpu_cohorts.SMALL, Path(), torch.device("cuda"), 1.0)
    assert page.count("| the same |") == len(gpu_cohorts.AT_ONCE)
    assert left == [0, 0, 0, 0]


def test_without_a_gpu_its_section_says_so_in_a_line(monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    said = gpu.section(ONCE, quick=False)
    assert said.startswith("Left out")
    assert said.count("\n") == 1
