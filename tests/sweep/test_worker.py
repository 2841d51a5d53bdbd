"""A worker process, spoken to as the controller does, with cells that end in every way."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from harness import load_sae
from harness.activations.store import ActivationStore
from harness.evaluation.measurements import measurements
from harness.locks import exclusive
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort, Stopped
from harness.training.data import Data, open_data
from harness.training.trainer import NextBatch
from harness.workers.cell_folder import CellFolder
from harness.workers.job import Job
from harness.workers.run_cell import End, run_cell

RECIPE = Recipe(latents=64, k=4, tokens=8_000, batch=128, dead_window=1_024, lr=1e-3)
DEEP = replace(RECIPE, layers="dense 2-2", optimizer="muon", k=3, latents=96)
LARGE = replace(RECIPE, latents=10**9)  # 64 GB of weights
LAST = replace(RECIPE, tokens=128, lr=1e30, gradient_clip=None)  # explodes in its last update, behind all losses
EXPLODING = replace(RECIPE, optimizer="muon", lr=1e6, gradient_clip=1e9)
MEASUREMENTS = measurements("these held-out activations")
ADDRESSES = 24 * 2**30  # bytes; a worker's libraries alone take several GiB of addresses


@pytest.fixture
def start(small_study):
    """Starts workers in a small study's workspace; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start_one(**options) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "harness.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(worker)
        return worker

    yield start_one
    for worker in started:
        worker.kill()
        worker.communicate()


def job(cells: dict[str, Recipe], checkpoint_seconds: float = 1e9) -> Job:
    for name in cells:
        folder(name).describe({})
    return Job(
        cells={str(folder(name).path): asdict(recipe) for name, recipe in cells.items()},
        activations="data/random/activations",
        device="cpu",
        threads=1,
        checkpoint_seconds=checkpoint_seconds,
        measurements=MEASUREMENTS,
    )


def folder(name: str) -> CellFolder:
    return CellFolder(Path("runs/cells") / name)


def ends(worker: subprocess.Popen[str], *jobs: Job) -> dict[str, list[str]]:
    """What a worker says of each cell's end, until it has ended itself."""
    said, errors = worker.communicate("".join(job.to_line() for job in jobs), timeout=120)
    assert worker.returncode == 0, errors
    messages = [json.loads(line) for line in said.splitlines()]
    found: dict[str, list[str]] = {}
    for message in messages:
        if "end" in message:
            found.setdefault(message["cell"], []).append(message["end"])
    return found


def outcome(name: str) -> tuple:
    """Everything about a cell's result and measurements but the time that it took."""
    result = folder(name).outcome(MEASUREMENTS, RECIPE)
    return {**result, "seconds": None}, folder(name).points()


def limit_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))


def test_a_cell_ends_the_same_alone_and_beside_cells_that_fail_in_every_way(start):
    ends(start(), job({"alone": RECIPE}), job({"deep-alone": DEEP}))

    obstacle = folder("obstructed").path / "checkpoints"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way of a folder")
    cohort = {"large": LARGE, "small": RECIPE, "exploding": EXPLODING, "obstructed": RECIPE, "deep": DEEP}
    assert ends(start(preexec_fn=limit_addresses), job(cohort, checkpoint_seconds=0.05)) == {
        "large": ["out_of_memory"],
        "exploding": ["done"],
        "obstructed": ["failed"],
        "small": ["done"],
        "deep": ["done"],
    }
    assert outcome("small") == outcome("alone")
    assert outcome("deep") == outcome("deep-alone")
    assert "FVU" in folder("exploding").result()["reason"]
    assert "Error" in folder("obstructed").failure()["reason"]
    assert folder("large").failure() is None  # there may be room for it alone, or in micro-batches
    assert "memory" in folder("large").log.read_text()


def test_cells_that_are_done_or_in_other_hands_do_not_hold_the_others_up(start):
    ends(start(), job({"done": RECIPE}))
    with exclusive(folder("taken").path / "lock") as mine:
        assert mine
        cohort = {"done": RECIPE, "taken": RECIPE, "new": RECIPE}
        assert ends(start(), job(cohort)) == {"done": ["done"], "taken": ["busy"], "new": ["done"]}
    assert outcome("new") == outcome("done")


def test_cells_are_not_trained_on_other_activations_than_those_that_they_are_named_after(start):
    meant = ActivationStore.open(Path("data/random/activations")).fingerprint
    jobs = [
        replace(job({"these": RECIPE}), fingerprint=meant),
        replace(job({"others": RECIPE}), fingerprint="else"),
    ]
    assert ends(start(), *jobs) == {"these": ["done"], "others": ["failed"]}
    assert "no longer those that this sweep began with" in folder("others").failure()["reason"]


def test_a_worker_that_is_told_to_stop_checkpoints_every_cell(start):
    long = {"one": replace(RECIPE, tokens=10**8), "two": replace(DEEP, tokens=10**8)}
    worker = start()
    worker.stdin.write(job(long).to_line())
    worker.stdin.flush()
    assert set(json.loads(worker.stdout.readline())["tokens"]) == {"one", "two"}
    worker.terminate()
    assert ends(worker) == {"one": ["stopped"], "two": ["stopped"]}
    for name in long:
        assert folder(name).checkpoints.load() is not None
        with exclusive(folder(name).path / "lock") as free:
            assert free


def test_activations_that_are_not_there_are_why_every_cell_fails(start):
    nowhere = replace(job({"one": RECIPE, "two": DEEP}), activations="nowhere")
    assert ends(start(), nowhere) == {"one": ["failed"], "two": ["failed"]}
    assert "nowhere" in folder("one").failure()["reason"]


def test_seconds_are_those_of_a_cells_own_turns(start):
    """Twenty equal cells: each has a part of the time of all, which waiting for the others is not."""
    names = [f"cell-{number}" for number in range(20)]
    ends(start(), job(dict.fromkeys(names, RECIPE)))
    seconds = [folder(name).result()["seconds"] for name in names]
    mtimes = [(folder(name).path / "result.json").stat().st_mtime for name in names]
    began = (folder(names[0]).path / "recipe.json").stat().st_mtime
    assert sum(seconds) <= max(mtimes) - began


def test_seconds_go_on_where_a_cell_does(small_study):
    """Nearly all of its time is spent before it is stopped; what the first run took is in the checkpoint."""
    data = open_data("data/random/activations", "cpu")
    one = run_cell(folder("one").path, RECIPE, lambda: data)

    def train(cell: Generator[int, NextBatch, End], stop_at: int | None) -> None:
        cohort = Cohort({"one": cell})

        def beat() -> None:
            if cohort.waiting.get("one") == stop_at:
                raise Stopped

        cohort.train(lambda step: data.read(RECIPE, step), 1e9, beat, data.centred)

    train(one, stop_at=RECIPE.steps - 1)
    before = float(folder("one").checkpoints.load()["seconds"])
    assert before > 0
    train(run_cell(folder("one").path, RECIPE, lambda: data), stop_at=None)
    assert folder("one").result()["seconds"] > before


def test_the_checkpoint_of_a_stopped_cell_has_the_figure_of_its_point_of_the_curve(small_study):
    """Read alone, and measured as anybody would: on raw activations of the store."""
    data = open_data("data/random/activations", "cpu")
    recipe = replace(RECIPE, optimizer="schedule_free_adam", sparsifier="batchtopk", inputs="unit_norm")
    cohort = Cohort({"one": run_cell(folder("one").path, recipe, lambda: data)})

    def beat() -> None:
        if len(points := folder("one").points()) > 3 and points[-1]["step"] == cohort.waiting["one"]:
            raise Stopped

    cohort.train(lambda step: data.read(recipe, step), 1e9, beat, data.centred)
    point = folder("one").points()[-1]
    sae = load_sae(folder("one").path / "checkpoints" / f"{point['step']:09}.safetensors")
    store = ActivationStore.open(Path("data/random/activations"))
    x = torch.from_numpy(store.read("held_out", 0, point["measured_tokens"]))
    error, spread = x - sae(x), x - x.mean(0)
    assert float(error.square().sum() / spread.square().sum()) == pytest.approx(point["heldout_fvu"], rel=1e-5)
    assert sae.config.data == store.fingerprint


def test_a_cell_whose_last_figures_are_not_finite_is_diverged_and_says_which(start):
    assert ends(start(), job({"last": LAST})) == {"last": ["done"]}
    result = folder("last").result()
    assert result["state"] == "diverged"
    assert "score" not in result
    assert not (folder("last").path / "measurements").exists()
    assert result["reason"] in {f"held-out FVU {value} at 128 tokens" for value in ("nan", "inf")}
    for path in folder("last").path.iterdir():
        assert not path.is_file() or not {"NaN", "Infinity"} & {*re.findall(r"\w+", path.read_text())}, path


def test_points_of_a_curve_say_what_they_are_of(start):
    """Training death is of a whole window, or not there; held-out figures are of so many tokens."""
    ends(start(), job({"one": RECIPE}))
    points = folder("one").points()
    seen = {point["tokens"] for point in points if "train_dead_fraction" in point}
    assert seen == {point["tokens"] for point in points if point["tokens"] >= RECIPE.dead_window}
    assert 0 < len(seen) < len(points)
    assert {point["measured_tokens"] for point in points if "heldout_fvu" in point} == {256}
    assert points[-1]["heldout_fvu"] > 0


@pytest.mark.parametrize("sparsifier", ["batchtopk", "jumprelu"])
def test_a_result_says_how_its_thresholds_were_set(start, sparsifier):
    recipe = replace(
        RECIPE, sparsifier=sparsifier, layers="sparse 2", sparsity=0.1 if sparsifier == "jumprelu" else None
    )
    ends(start(), job({"one": recipe, "top-k": RECIPE}))
    result = folder("one").result()
    calibration = result["calibration"]
    assert calibration["tokens"] == 8192  # all training tokens: fewer than 32,768
    assert [layer["l0"] for layer in calibration["layers"]] == [pytest.approx(2, rel=1e-3)] * 2
    assert [layer["l0_learned"] is None for layer in calibration["layers"]] == [sparsifier == "batchtopk"] * 2
    measured, _ = outcome("one")
    assert measured["heldout"]["l0"] == pytest.approx(4, rel=0.05)  # of 1,024 tokens
    assert "calibration" not in folder("top-k").result()


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=["torch's allocator", "driver", "cuBLAS", "cuSOLVER", "Triton"],
)
def test_a_full_gpu_is_out_of_memory_whoever_asked_for_more(small_study, failure):
    """The cell is then tried again in micro-batches, and the worker goes on: nothing is wrong with its GPU."""

    def full() -> Data:
        raise failure

    ended: dict[str, str] = {}
    Cohort({"one": run_cell(folder("one").path, RECIPE, full)}, ended.__setitem__).train(
        lambda step: torch.zeros(128, 16), seconds=1e9
    )
    assert ended == {"one": "out_of_memory"}
    assert folder("one").failure() is None


def test_an_error_that_disables_the_gpu_ends_the_worker_and_not_the_cells(small_study):
    """Each is then tried again alone, as after a kill: the error may be a neighbour's."""

    def broken() -> Data:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    members = {name: run_cell(folder(name).path, RECIPE, broken) for name in ("one", "two")}
    with pytest.raises(torch.AcceleratorError):
        Cohort(members).train(lambda step: torch.zeros(128, 16), seconds=1e9)
    assert "device-side assert" in folder("one").log.read_text()
    assert folder("one").failure() is None
    assert not folder("two").path.exists()
