"""Files that a power cut has emptied, cut off or filled with zeros: said in one line, and made again."""

import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort, Stopped
from harness.training.data import open_data
from harness.workers.cell_folder import CellFolder
from harness.workers.run_cell import run_cell
from tests.sweep.test_sweep import FILES, records

ZEROS = b"\0" * 512
DAMAGES = {"empty": lambda content: b"", "cut off": lambda content: content[:-9], "zeros": lambda _: ZEROS}


@pytest.fixture
def finished(undisturbed, tmp_path, monkeypatch) -> Path:
    shutil.copytree(undisturbed, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return undisturbed


def test_a_study_with_damaged_files_goes_on_to_the_same_results(finished, capfd):
    folders = [Path("runs/cells") / row["cell"] for row in records(Path(), "cells.jsonl")]
    damaged = [folder / "result.json" for folder in folders[1:4]]
    for path, damage in zip(damaged, DAMAGES.values(), strict=True):
        path.write_bytes(damage(path.read_bytes()))
    curves = [folder / "curve.jsonl" for folder in folders[4:7]]
    for path, damage in zip(curves, DAMAGES.values(), strict=True):
        path.write_bytes(damage(path.read_bytes()))
    Path("runs/small.asked.json").write_bytes(b"")
    Path("runs/small.finished").write_bytes(ZEROS)
    failed = folders[5] / "failure.json"
    failed.write_bytes(b"")

    main(["plan", "studies/small.yaml"])
    main(["status", "studies/small.yaml"])
    said = " ".join(capfd.readouterr().err.split())
    for path in (*damaged, Path("runs/small.asked.json")):
        assert f"{path.absolute()}: damaged; ignored" in said
    main(["run", "studies/small.yaml", "--workers", "1"])
    said = " ".join(capfd.readouterr().err.split())
    for path in curves:
        assert f"{path.absolute()}: cut off; the cell is trained again" in said
    for name in FILES:
        assert Path("results/small", name).read_bytes() == (finished / "results/small" / name).read_bytes()


RECIPE = Recipe(latents=64, k=4, tokens=8_000, batch=128, dead_window=1_024, lr=1e-3)


class StoppedAt:
    """Trains a cell, and stops it after a step, where it checkpoints."""

    def __init__(self, folder: CellFolder) -> None:
        self.data = open_data("data/random/activations", "cpu")
        self.cells = {"cell": run_cell(folder.path, RECIPE, lambda: self.data)}

    def train(self, stop: int | None = None) -> None:
        def beat() -> None:
            if stop is not None and cohort.waiting.get("cell") == stop:
                raise Stopped

        cohort = Cohort(self.cells)
        cohort.train(lambda step: self.data.read(RECIPE, step), 1e9, beat, self.data.centred)


@pytest.mark.parametrize("damage", ["zeros", "points lost", "line garbled", "cut off", "empty"])
def test_a_cell_resumes_where_its_curve_and_a_checkpoint_agree(small_study, damage, capfd):
    whole, ours = (CellFolder(Path("runs/cells") / name) for name in ("whole", "ours"))
    StoppedAt(whole).train()
    for stop in (20, 50):
        StoppedAt(ours).train(stop)
    torn = ours.path / "checkpoints" / "000000051.safetensors.tmp"
    torn.write_bytes(b"written when the power went")
    lines = ours.curve.read_bytes().splitlines(keepends=True)
    ours.curve.write_bytes(
        {
            "zeros": b"".join(lines) + ZEROS,
            "points lost": b"".join(lines[:-2]),
            "line garbled": lines[0] + ZEROS + b"\n" + b"".join(lines[2:]),
            "cut off": b"".join(lines)[:-9],
            "empty": b"",
        }[damage]
    )
    StoppedAt(ours).train()
    assert ours.points() == whole.points()
    assert {**ours.result(), "seconds": None} == {**whole.result(), "seconds": None}
    assert not torn.exists()
    said = capfd.readouterr().err
    assert ("damaged; only its first" in said) == (damage in ("zeros", "line garbled"))


def test_a_resumed_curve_keeps_the_point_of_its_checkpoint_and_loses_those_after_it(tmp_path):
    folder = CellFolder(tmp_path)
    folder.curve.write_text("".join(f'{{"step": {step}, "tokens": {64 * step}}}\n' for step in (10, 20, 30)))
    with folder.open_curve(20) as curve:
        curve.write('{"step": 31, "tokens": 1984}\n')
    assert [point["step"] for point in folder.points()] == [10, 20, 31]
