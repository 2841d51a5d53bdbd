"""Sweeps whose cells depend on their results: lists that are extended, and planned looks."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import polars as pl
import pytest

from harness.cli import main
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once, phases, trials
from tests.sweep.test_sweep import FILES, RUN, alive, points, records, seeds_begun, wait_until, workers_of

RUN_ONE = ["run", "studies/small.yaml", "--workers", "1"]


def workspace(root: Path, databases: Path, axes: str) -> Path:
    """A workspace whose study has these axes and seeds."""
    study = make_workspace(root)
    text = study.read_text().replace("tokens: 25_000", "tokens: 4_096")
    study.write_text(text[: text.index("axes:")] + axes.lstrip())
    shutil.copytree(databases, root / "runs")
    return root


def study_of(root: Path) -> dict:
    return json.loads((root / "results/small/study.json").read_text())


def said(capsys, *arguments: str) -> str:
    main([*arguments])
    return " ".join(capsys.readouterr().out.split())


EXTENDED = """
axes:
  lr: {tune: {extend: true, limit: 3}, values: [2.5e-4, 1e-3]}
seeds: [0, 1]
"""


def test_a_list_that_is_too_low_is_extended_by_the_sweep(tmp_path, databases, monkeypatch, capsys):
    monkeypatch.chdir(workspace(tmp_path, databases, EXTENDED))
    plan = said(capsys, "plan", "studies/small.yaml")
    assert "2 settings × 2 seeds = 4 cells, at most 10" in plan
    assert "results may ask for up to 6 more cells" in plan
    assert "4 or more cells: 4 missing" in said(capsys, "status", "studies/small.yaml")
    main(RUN_ONE)
    rows = records(tmp_path, "cells.jsonl")
    study = study_of(tmp_path)
    assert study["cells"] == len(rows) > 4
    (shallow,) = study["extended"]["lr"]
    assert shallow["arm"] == {}
    tried = sorted({row["tuned"]["lr"] for row in rows if row["arm"] == shallow["arm"]})
    assert tried == sorted([2.5e-4, 1e-3, *shallow["added"]])
    assert shallow["added"][0] == 4e-3
    mean = {
        lr: sum(r["score"] for r in rows if r["arm"] == shallow["arm"] and r["tuned"]["lr"] == lr) for lr in tried
    }
    best = min(mean, key=mean.__getitem__)
    inside = tried[0] < best < tried[-1]
    assert shallow["ended"] == ("best inside" if inside else "limit")
    assert_each_cell_once(tmp_path, [row["cell"] for row in rows], points(tmp_path))

    capsys.readouterr()
    assert "or more" not in said(capsys, "status", "studies/small.yaml")
    assert f"{len(rows)} done, 0 to run" in said(capsys, "plan", "studies/small.yaml")
    before = {name: (tmp_path / "results/small" / name).read_bytes() for name in FILES}
    with monkeypatch.context() as patch:
        patch.setattr("harness.sweep.study_recorder.StudyRecorder.__init__", lambda *_: pytest.fail("opened"))
        main(RUN_ONE)
    assert before == {name: (tmp_path / "results/small" / name).read_bytes() for name in FILES}
    main(["report", "studies/small.yaml", "--step", "tables"])
    arms = pl.read_csv("results/small/tables/arms.csv")
    assert arms["axis_lr"][0] == best


DIVERGING = """
axes:
  lr: {tune: {extend: true, values: [4e-12, 4e-3]}}
seeds: [0]
tuning_seeds: [1]
"""


def test_an_added_value_that_diverges_ends_the_search(tmp_path, databases, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path, databases, DIVERGING))
    main(RUN_ONE)
    rows = [(row["tuned"]["lr"], row["seed"], row["state"]) for row in records(tmp_path, "cells.jsonl")]
    assert rows == [(4e-12, 1, "complete"), (4e-3, 1, "complete"), (4e6, 1, "diverged"), (4e-3, 0, "complete")]
    assert study_of(tmp_path)["extended"] == {"lr": [{"arm": {}, "added": [4e6], "ended": "best inside"}]}
    assert set(phases(tmp_path).values()) == {("tuning", "tuning"), ("reported", "reported")}


# The second batch size differs from the first, which the others are compared with, by chance alone; the third is
# one step.
LOOKS = """
axes: {batch: [128, 127, 4096]}
seeds: {looks: [3, 4]}
"""


@pytest.fixture(scope="module")
def looked(tmp_path_factory, databases):
    root = workspace(tmp_path_factory.mktemp("looked"), databases, LOOKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(RUN_ONE)
    return root


def test_an_arm_that_a_look_has_decided_gets_no_more_seeds(looked, monkeypatch, capsys):
    rows = records(looked, "cells.jsonl")
    seeds = {batch: [r["seed"] for r in rows if r["arm"]["batch"] == batch] for batch in (128, 127, 4096)}
    assert seeds == {128: [0, 1, 2, 3], 127: [0, 1, 2, 3], 4096: [0, 1, 2]}
    study = study_of(looked)
    assert (study["looks"], study["seeds"], study["cells"]) == ([3, 4], [0, 1, 2, 3], 11)
    assert_each_cell_once(looked, [row["cell"] for row in rows], points(looked))
    monkeypatch.chdir(looked)
    assert "small: 11 cells: 11 complete" in said(capsys, "status", "studies/small.yaml")
    plan = said(capsys, "plan", "studies/small.yaml")
    assert "3 settings × 3 seeds = 9 cells, at most 12; 11 done, 0 to run" in plan


def test_the_tables_count_the_seeds_that_each_arm_was_asked_for(looked, monkeypatch):
    monkeypatch.chdir(looked)
    main(["report", "studies/small.yaml"])
    arms = pl.read_csv("results/small/tables/arms.csv")
    assert (arms["n"].to_list(), arms["missing"].to_list()) == ([4, 4, 3], [0, 0, 0])
    page = Path("results/small/report.html").read_text()
    assert "reported on" not in page
    (verdict,) = pl.read_csv("results/small/tables/effects.csv").filter(kind="pair", level=4096)["fvu_verdict"]
    assert verdict == "higher"


@pytest.mark.chaos
def test_a_sweep_that_is_killed_after_a_look_ends_like_an_undisturbed_one(
    looked, tmp_path, databases, monkeypatch
):
    root = workspace(tmp_path, databases, LOOKS)
    shutil.copytree(looked / "runs/cells", root / "runs/cells")
    for folder in (root / "runs/cells").iterdir():
        if json.loads((folder / "recipe.json").read_text())["recipe"]["seed"] == 3:
            shutil.rmtree(folder)
    sweep = subprocess.Popen(RUN, cwd=root, start_new_session=True)
    wait_until(lambda: 3 in seeds_begun(root), seconds=300)
    workers = workers_of(sweep)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_until(lambda: not alive(workers), seconds=300)
    monkeypatch.chdir(root)
    main(RUN_ONE)
    for name in FILES:
        assert (root / "results/small" / name).read_bytes() == (looked / "results/small" / name).read_bytes(), name
    assert_each_cell_once(root, [row["cell"] for row in records(root, "cells.jsonl")], points(root))
    assert len(trials(root)) == 11
