"""Which trained SAEs stay on disk, and that they are those of the tables."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch

from harness import load_sae
from harness.activations.store import ActivationStore
from harness.cli import main
from harness.errors import UserError
from harness.locks import exclusive
from harness.study.known import possible_cells
from harness.study.spec import load_study
from harness.sweep.kept_saes import KeptSAEs, may_keep
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace
from tests.conftest import make_workspace

STUDY = """
question: Which of these SAEs stay?
source: sources/random.yaml
recipe: {latents: 32, k: 4, tokens: 2_560, batch: 128, dead_window: 1_024, sparsifier: batchtopk}
axes:
  optimizer: [adam, schedule_free_adam]
  lr: {tune: true, values: [4e-3, 1e-3]}
seeds: [0, 1]
"""
PART = {"[adam, schedule_free_adam]": "[adam]"}


def write(name: str, keep: str, changes: dict[str, str] | None = None) -> str:
    """A study file in the current workspace."""
    text = STUDY
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    path = Path(f"studies/{name}.yaml")
    path.write_text(f"{text}keep: {keep}\n")
    return str(path)


def run(name: str, keep: str, changes: dict[str, str] | None = None) -> list[dict]:
    """Run a study; its seeds table."""
    study = write(name, keep, changes)
    main(["run", study, "--workers", "1"])
    main(["report", study, "--step", "tables"])
    return pl.read_parquet(f"results/{name}/tables/seeds.parquet").to_dicts()


def there() -> set[str]:
    return {path.parent.parent.name for path in Path("runs/cells").glob("*/sae/config.json")}


def fvu(folder: str) -> float:
    """Of an SAE on the held-out activations as they are stored, in the language model's own units."""
    store = ActivationStore.open(Path("data/random/activations"))
    x = torch.from_numpy(store.read("held_out", 0, store.tokens("held_out")))
    error = x - load_sae(folder)(x)
    return float(error.square().sum(dtype=torch.float64) / (x - x.mean(0)).square().sum(dtype=torch.float64))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, databases) -> Path:
    """A workspace in which the study has been run."""
    root = tmp_path_factory.mktemp("kept")
    make_workspace(root)
    shutil.copytree(databases, root / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        ended: list[str] = []
        patch.setattr(KeptSAEs, "drop", lambda kept, cell: ended.append(cell))
        run("study", "reported")
    assert len(ended) == 8  # each cell is asked about when it ends, so that `keep: none` never needs much room
    return root


@pytest.fixture
def workspace(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the current folder."""
    root = shutil.copytree(finished, tmp_path / "workspace")
    monkeypatch.chdir(root)
    return root


def seeds_table(name: str = "study") -> list[dict]:
    return pl.read_parquet(f"results/{name}/tables/seeds.parquet").to_dicts()


def test_the_saes_of_the_reported_cells_have_the_figures_of_the_table(workspace):
    rows = seeds_table()
    assert {row["arm"] for row in rows} == {"adam", "schedule_free_adam"}
    assert len(rows) == 4
    for row in rows:
        assert fvu(row["sae"]) == pytest.approx(row["fvu"], rel=1e-5)
    assert there() == {row["cell"] for row in rows}
    assert len(list(Path("runs/cells").iterdir())) == 8


def test_a_kept_sae_says_where_it_comes_from(workspace):
    config = json.loads(Path(seeds_table()[0]["sae"], "config.json").read_text())
    assert config["source"] == "random"
    assert config["data"] == ActivationStore.open(Path("data/random/activations")).fingerprint
    assert re.fullmatch("[0-9a-f]{64}", config["code"])
    assert config["calibration"]["layers"][0]["l0"] == pytest.approx(4, rel=0.01)


def test_the_report_says_where_they_are(workspace):
    for step in ("figures", "page"):
        main(["report", "studies/study.yaml", "--step", step])
    page = Path("results/study/report.html").read_text()
    assert "4 of 4 reported cells" in page
    assert seeds_table()[0]["sae"] in page


def test_studies_share_cells_and_none_deletes_what_another_one_keeps(workspace, capsys):
    reported = {row["cell"] for row in seeds_table()}
    both = run("all", "all", PART)  # takes all its cells over
    assert {row["cell"] for row in both if row["sae"]} == {row["cell"] for row in both} & reported
    assert "the SAEs of 2 cells, which this study keeps now, are gone" in capsys.readouterr().out
    taken = {row["cell"] for row in both}
    rows = run("study", "none")
    assert there() == taken & reported
    assert all(row["sae"] is None for row in rows)
    rows = run("study", "reported")  # what has been deleted is not kept, whatever the study says later
    assert {row["cell"] for row in rows if row["sae"]} == taken & reported
    assert all(row["sae"] is None for row in rows if row["arm"] == "schedule_free_adam")
    run("all", "none", PART)
    assert there() == taken & reported


def test_what_a_study_keeps_is_no_part_of_a_cells_identity(workspace):
    ids = [
        [cell.id for cell in possible_cells(load_study(Path(write("x", keep))), "data")]
        for keep in ("none", "reported", "all")
    ]
    assert ids[0] == ids[1] == ids[2]


def test_tuning_cells_are_kept_only_where_all_are(workspace):
    tuned = {"seeds: [0, 1]": "seeds: [0, 1]\ntuning_seeds: [2]"}
    study = load_study(Path(write("x", "all", tuned)))
    cells = possible_cells(study, "data")
    assert may_keep(study, cells) == {cell.id for cell in cells}
    study = load_study(Path(write("x", "reported", tuned)))
    assert may_keep(study, cells) == {cell.id for cell in cells if cell.recipe.seed != 2}
    assert may_keep(load_study(Path(write("x", "none", tuned))), cells) == set()


def test_another_word_for_it_gets_one_line(workspace, capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(["plan", write("x", "best")])
    assert exit_code.value.code == 2
    assert re.search(r"studies/x.yaml:9: keep: expected .*reported.*, got 'best'", capsys.readouterr().err)


def planned(capsys, study: str) -> str:
    main(["plan", study])
    return " ".join(capsys.readouterr().out.split())


def test_plan_shows_the_room_that_they_take(workspace, capsys):
    each = (2 * 16 * 32 + 32 + 16) * 4 / 2**20  # MiB of weights
    found = planned(capsys, "studies/study.yaml")
    assert f"trained SAEs kept (keep: reported): 4, {4 * each:.1f} MiB; until the sweep is done 8," in found
    assert "there now: 4," in found
    assert "trained SAEs kept (keep: none): none" in planned(capsys, write("x", "none"))
    assert "trained SAEs kept (keep: all): 8," in planned(capsys, write("x", "all"))
    tuned = {"seeds: [0, 1]": "seeds: [0, 1]\ntuning_seeds: [2]"}
    assert "until the sweep is done" not in planned(capsys, write("x", "reported", tuned))
    assert "trained SAEs kept (keep: all): 8," in planned(capsys, write("x", "all", tuned))


@pytest.fixture
def saes(tmp_path) -> Workspace:
    """A workspace with SAEs of the cells a to e, of which nobody says yet whether to keep them."""
    workspace = Workspace(tmp_path)
    for cell in "abcde":
        workspace.cell(cell).joinpath("sae").mkdir(parents=True)
        workspace.cell(cell).joinpath("sae", "config.json").write_text("{}")
        workspace.cell(cell).joinpath("sae", "sae.safetensors").write_text("")
        workspace.cell(cell).joinpath("result.json").write_text("{}")
    return workspace


def left(workspace: Workspace) -> str:
    return "".join(cell for cell in "abcde" if CellFolder(workspace.cell(cell)).keeps_sae())


def test_what_no_study_keeps_is_deleted_when_one_is_done(saes):
    one, two = KeptSAEs(saes, "one"), KeptSAEs(saes, "two")
    one.add("abc")
    two.add("cd")
    two.drop("d")
    two.drop("a")
    assert left(saes) == "abcde"
    two.drop("e")  # ended, and kept by nobody
    assert left(saes) == "abcd"
    one.keep_only("a")
    assert left(saes) == "acd"
    two.keep_only("")
    assert left(saes) == "a"
    assert all((saes.cell(cell) / "result.json").exists() for cell in "abcde")


def test_a_sweep_that_begins_keeps_what_its_study_kept_before(saes):
    KeptSAEs(saes, "one").keep_only("ab")
    assert left(saes) == "ab"
    KeptSAEs(saes, "one").add("c")
    KeptSAEs(saes, "two").keep_only("")
    assert left(saes) == "ab"
    assert KeptSAEs(saes, "one").cells == {"a", "b", "c"}


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 99, b'{"cells": ', b"[]"], ids=["empty", "zeros", "torn", "a list"]
)
def test_nothing_is_deleted_while_what_a_study_keeps_cannot_be_read(saes, damage, capsys):
    KeptSAEs(saes, "one").add("ab")
    saes.kept("one").write_bytes(damage)
    KeptSAEs(saes, "two").keep_only("c")
    assert left(saes) == "abcde"
    assert f"{saes.kept('one')}: what it keeps is not known" in capsys.readouterr().err
    KeptSAEs(saes, "one").keep_only("ab")
    assert left(saes) == "abc"


def test_deleting_goes_on_where_it_was_interrupted(saes, monkeypatch):
    drop, dropped = CellFolder.drop_sae, []

    def interrupted(folder: CellFolder) -> None:
        if dropped:
            raise KeyboardInterrupt
        dropped.append(folder.path.name)
        drop(folder)

    monkeypatch.setattr(CellFolder, "drop_sae", interrupted)
    with pytest.raises(KeyboardInterrupt):
        KeptSAEs(saes, "one").keep_only("a")
    assert len(left(saes)) == 4
    monkeypatch.undo()
    KeptSAEs(saes, "one").keep_only("a")
    assert left(saes) == "a"


def test_a_lock_that_nobody_lets_go_of_gets_one_line(saes, monkeypatch):
    monkeypatch.setattr("harness.sweep.kept_saes.PATIENCE", 0.0)
    with exclusive(saes.runs / "kept"), pytest.raises(UserError, match="expected other sweeps"):
        KeptSAEs(saes, "one").add("a")


def test_a_study_may_be_named_kept(saes):
    with exclusive(saes.controller("kept")):
        KeptSAEs(saes, "kept").add("a")


def test_a_sweep_that_has_begun_meanwhile_keeps_what_it_may_come_to_report(saes):
    done, edited = KeptSAEs(saes, "one"), KeptSAEs(saes, "one")
    done.add("ab")
    edited.add("c")
    done.keep_only("a")
    assert left(saes) == "abcde"
    edited.keep_only("c")
    assert left(saes) == "c"
