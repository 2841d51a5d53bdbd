"""`harness compare`: studies side by side, the cells that they share, and two runs of one study."""

import csv
import json
import math
import random
import re

import pytest

from harness.cli import main
from tests.analysis.synthetic_results import cell_record, study_record, write, write_grid

RECIPE = {"latents": 1024, "k": 16, "tokens": 1_048_576, "batch": 1024, "layers": "none", "optimizer": "adam"}
SEED_SPREAD, RERUN_SPREAD = 0.02, 0.005  # standard deviations of log FVU


def seed_noise(levels, seed: int) -> float:
    return math.exp(random.Random(f"{levels}{seed}").gauss(0, SEED_SPREAD))


def depth_fvu(levels, seed: int) -> float:
    return {"none": 0.10, "sparse 2": 0.08, "dense 2-2": 0.10}[levels["layers"]] * seed_noise(levels, seed)


AXES = {"layers": ["none", "sparse 2", "dense 2-2"], "lr": [0.001, 0.004]}


@pytest.fixture
def compared(capsys):
    """Runs the command; returns what it printed, without runs of spaces."""

    def run(*arguments: object) -> str:
        main(["compare", *map(str, arguments)])
        return re.sub(r" +", " ", capsys.readouterr().out)

    return run


def shared_studies(root):
    """`optimizer` has two arms, of which `adam` is `none` of `depth`, with two cells of both at seeds 0 and 1."""
    depth = write_grid(root / "depth", AXES, 3, depth_fvu, tuned=("lr",))
    add(depth, recipe=RECIPE)
    cells = [json.loads(line) for line in (depth / "cells.jsonl").read_text().splitlines()]
    adam = [
        cell | {"arm": {"optimizer": "adam"}, "tuned": {}}
        for cell in cells
        if cell["arm"]["layers"] == "none" and cell["tuned"]["lr"] == 0.001 and cell["seed"] < 2
    ]
    adam.append(cell_record({"optimizer": "adam"}, 3, 0.101))
    muon = [cell_record({"optimizer": "muon"}, seed, 0.095 + seed / 1000) for seed in (0, 1, 3)]
    axes = {"optimizer": ["adam", "muon"]}
    study = study_record("optimizer", axes, [0, 1, 3], recipe=RECIPE | {"lr": 0.001}, cells=6)
    return depth, write(root / "optimizer", study, adam + muon, [])


def add(results, **changes) -> None:
    path = results / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_studies_that_share_cells_are_no_replication_of_each_other(tmp_path, compared):
    depth, optimizer = shared_studies(tmp_path)
    shown = compared(depth, optimizer)
    assert "depth and optimizer share 2 cells" in shown
    assert "no replication" in shown
    assert re.search(r"none \(depth\), adam \(optimizer\): 2 cells, \d of them in the figures of both", shown)
    assert "verdicts" not in shown  # of two different studies


def test_arms_of_one_recipe_stand_together_if_both_search_the_same(tmp_path, compared):
    depth, optimizer = shared_studies(tmp_path)
    other = write_grid(
        tmp_path / "wide", {"optimizer": ["adam", "muon"], "lr": [0.001, 0.01]}, 3, lambda *_: 0.1, ("lr",)
    )
    add(other, recipe=RECIPE)
    compared(depth, other, optimizer, "--csv", tmp_path / "arms.csv")
    rows = list(csv.DictReader((tmp_path / "arms.csv").open()))
    found = {(row["study"], row["arm"]): row["recipe"] for row in rows}
    assert len(found) == 7
    assert found["depth", "none"] == found["wide", "adam"]
    assert found["optimizer", "adam"] != found["depth", "none"]  # its learning rate is not searched
    assert len(set(found.values())) == 6


def rerun(results, folder, shift: float = 0.0):
    """The same cells, trained elsewhere."""
    cells = [json.loads(line) for line in (results / "cells.jsonl").read_text().splitlines()]
    noise = random.Random(0)
    for cell in cells:
        cell["heldout"]["fvu"] *= math.exp(shift + math.sqrt(2) * noise.gauss(0, RERUN_SPREAD))
    return write(folder, json.loads((results / "study.json").read_text()), cells, [])


def test_reruns_are_compared_with_seeds(tmp_path, compared):
    first = write_grid(tmp_path / "depth", AXES, 8, depth_fvu, tuned=("lr",))
    second = rerun(first, tmp_path / "elsewhere")
    shown = compared(first, second, "--json", tmp_path / "all.json")
    assert "depth (2)" in shown
    assert "48 cells in both, 0 with the same figures to the last bit" in shown
    written = json.loads((tmp_path / "all.json").read_text())
    assert [study["folder"] for study in written["studies"]] == [str(first), str(second)]
    (pair,) = written["pairs"]
    spread = pair["reruns"]["log_fvu"]
    assert spread["cells"] == 48
    assert spread["rerun"] == pytest.approx(RERUN_SPREAD, rel=0.3)
    assert spread["seed"] == pytest.approx(SEED_SPREAD, rel=0.3)
    assert abs(spread["shift"]) < 0.004
    assert re.search(
        r"standard deviation 0\.\d+ % between reruns, [12]\.\d+ % between seeds \(ratio 0\.\d+\)", shown
    )


def test_verdicts_of_two_runs_that_differ_are_listed(tmp_path, compared):
    def fvu(levels, seed):
        return depth_fvu(levels, seed) if levels["layers"] != "dense 2-2" else 0.12 + seed / 1000

    first = write_grid(tmp_path / "a" / "depth", AXES, 4, depth_fvu, tuned=("lr",))
    second = write_grid(tmp_path / "b" / "depth", AXES, 4, fvu, tuned=("lr",))
    shown = compared(first, second, "--json", tmp_path / "all.json")
    (pair,) = json.loads((tmp_path / "all.json").read_text())["pairs"]
    (verdicts,) = [one for one in pair["verdicts"] if one["kind"] == "pair"]
    (differ,) = [one for one in verdicts["differ"] if one["metric"] == "fvu"]
    assert (differ["level"], differ["reference"]) == ("dense 2-2", "none")
    assert differ["verdicts"][1] == "higher"
    total = verdicts["agree"] + len(verdicts["differ"])
    assert f"Pairs of arms: {verdicts['agree']} of {total} verdicts agree" in shown
    assert "dense 2-2 instead of none: FVU" in shown


def test_the_same_results_twice_agree_in_everything(tmp_path, compared):
    first = write_grid(tmp_path / "depth", AXES, 3, depth_fvu, tuned=("lr",))
    again = write(tmp_path / "again", json.loads((first / "study.json").read_text()), [], [])
    (again / "cells.jsonl").write_bytes((first / "cells.jsonl").read_bytes())
    shown = compared(first, again)
    assert "18 cells in both, 18 with the same figures to the last bit" in shown
    assert not re.search(r"verdicts agree;|instead of", shown)


def test_figures_that_one_study_alone_measures_make_no_cell_another(tmp_path, compared):
    first = write_grid(tmp_path / "depth", AXES, 3, depth_fvu, tuned=("lr",))
    cells = [json.loads(line) for line in (first / "cells.jsonl").read_text().splitlines()]
    for cell in cells:
        cell["heldout"]["detection"] = 0.5
    again = write(tmp_path / "again", json.loads((first / "study.json").read_text()), cells, [])
    assert "18 cells in both, 18 with the same figures to the last bit" in compared(first, again)


def test_cells_of_other_activations_are_matched_by_what_they_are(tmp_path, compared):
    first = write_grid(tmp_path / "depth", AXES, 3, depth_fvu, tuned=("lr",))
    second = rerun(first, tmp_path / "elsewhere")
    path = second / "cells.jsonl"
    path.write_text(re.sub(r'"cell": "(\w{11})\w"', r'"cell": "\1-"', path.read_text()))
    shown = compared(first, second)
    assert "18 cells in both, 0 with the same figures to the last bit, 18 with another identity" in shown


MISTAKES = {
    "one folder": (["depth"], "RESULTS: expected two folders or more, got depth alone"),
    "a folder twice": (["depth", "./depth"], "RESULTS: expected each folder once, got depth depth"),
    "no results": (["depth", "nowhere"], "nowhere: no study.json"),
    "a file that is there": (
        ["depth", "other", "--json", "depth/study.json"],
        "--json: depth/study.json: expected a file that is not there yet",
    ),
    "no folder for it": (["depth", "other", "--csv", "no/where.csv"], "--csv: no/where.csv: expected a folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line(tmp_path, monkeypatch, capsys, mistake):
    monkeypatch.chdir(tmp_path)
    for name in ("depth", "other"):
        write_grid(tmp_path / name, AXES, 2, depth_fvu, tuned=("lr",))
    before = (tmp_path / "depth" / "study.json").read_bytes()
    arguments, expected = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"harness: {expected}")
    assert error.count("\n") == 1
    assert (tmp_path / "depth" / "study.json").read_bytes() == before
