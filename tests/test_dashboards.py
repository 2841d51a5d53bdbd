"""What Optuna's and MLflow's dashboards show is what the report says, and what the study asks for now."""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.commands.publishing import published
from harness.metrics import curve_columns, metrics_at
from harness.records.mlflow_runs import MlflowRuns
from harness.records.optuna_trials import OptunaTrials
from harness.records.trial import distribution
from harness.study.known import known
from harness.study.spec import load_study
from harness.workspace import Workspace
from tests.sweep.recorded import client, curve, mlflow_runs, trials

SELECTIONS = {"small": "on other seeds", "crossfitted": "cross-fitted"}


@pytest.fixture(scope="module")
def reported(undisturbed, tmp_path_factory) -> Path:
    """Two studies and their reports: settings chosen at seeds of their own, and cross-fitted."""
    root = tmp_path_factory.mktemp("reported")
    shutil.copytree(undisturbed, root, dirs_exist_ok=True)
    study = (root / "studies" / "small.yaml").read_text()
    (root / "studies" / "crossfitted.yaml").write_text(
        study.replace("seeds: [0, 1]\ntuning_seeds: [2]", "seeds: [0, 1, 2]")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(["run", "studies/crossfitted.yaml", "--workers", "1"])
        Path("results/small/features.html").write_text("the page of its latents")
        main(["report", "studies/small.yaml"])
        for step in ("tables", "summary"):
            main(["report", "studies/crossfitted.yaml", "--step", step])
    return root


def table(root: Path, study: str, name: str) -> list[dict[str, str]]:
    with (root / "results" / study / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def runs_where(root: Path, study: str, query: str):
    mlflow = client(root)
    experiment = mlflow.get_experiment_by_name(study)
    return list(mlflow.search_runs([experiment.experiment_id], query))


@pytest.mark.parametrize("study", SELECTIONS)
def test_both_dashboards_have_the_means_of_the_tables(reported, study):
    arms, seeds = table(reported, study, "arms"), table(reported, study, "seeds")
    assert {row["selection"] for row in arms} == {SELECTIONS[study]}
    listed = {row["cell"] for row in seeds}
    assert len(listed) == len(seeds) < len(table(reported, study, "cells"))

    in_mlflow, in_optuna = defaultdict(list), defaultdict(list)
    for run in runs_where(reported, study, "tags.reported = 'yes'"):
        in_mlflow[run.data.tags["arm"]].append(run)
    for trial in trials(reported, study):
        assert trial.user_attrs["reported"] == ("yes" if trial.user_attrs["cell"] in listed else "no")
        if trial.user_attrs["reported"] == "yes":
            in_optuna[trial.user_attrs["arm"]].append(trial)
    assert {run.data.tags["cell"] for runs in in_mlflow.values() for run in runs} == listed
    for row in arms:
        runs, found = in_mlflow.pop(row["arm"]), in_optuna.pop(row["arm"])
        for figure in ("fvu", "dead_fraction", "l0"):
            assert fmean(run.data.metrics[f"final/{figure}"] for run in runs) == pytest.approx(float(row[figure]))
        assert fmean(trial.value for trial in found) == pytest.approx(float(row["fvu"]))
        dead = fmean(trial.user_attrs["dead_fraction"] for trial in found)
        assert dead == pytest.approx(float(row["dead_fraction"]))
        assert sorted(trial.user_attrs["seed"] for trial in found) == sorted(
            int(line["seed"]) for line in seeds if line["arm"] == row["arm"]
        )
    assert not in_mlflow
    assert not in_optuna


@pytest.mark.parametrize("study", SELECTIONS)
def test_each_arm_has_a_run_with_its_means_and_its_curve_against_tokens(reported, study):
    runs = {run.data.tags["arm"]: run for run in runs_where(reported, study, "tags.kind = 'arm'")}
    arms = table(reported, study, "arms")
    assert list(runs) == [row["arm"] for row in arms]  # as MLflow lists them
    for row in arms:
        run = runs[row["arm"]]
        assert run.info.run_name == row["arm"]
        assert "mlflow.parentRunId" not in run.data.tags  # MLflow folds away what is below another run
        assert run.data.params["layers"] == row["axis_layers"]
        assert float(run.data.params["lr"]) == float(row["axis_lr"])
        for figure in ("fvu", "fvu_low", "fvu_high", "dead_fraction", "n"):
            assert run.data.metrics[f"final/{figure}"] == pytest.approx(float(row[figure]))
        points = [line for line in table(reported, study, "curves") if line["arm"] == row["arm"]]
        for name, column in (("heldout/fvu", "heldout_fvu"), ("heldout/fvu_low", "heldout_fvu_low")):
            told = [(int(line["trained_tokens"]), float(line[column])) for line in points if line[column]]
            assert curve(reported, run.info.run_id, name) == [(step, pytest.approx(value)) for step, value in told]


def test_what_cells_measure_has_a_row_in_the_table_of_metrics_and_the_other_way_round(reported):
    """In results, in the metrics of cells' runs and in the attributes of trials."""
    cells, points = (
        [json.loads(line) for line in (reported / "results/small" / name).read_text().splitlines()]
        for name in ("cells.jsonl", "curves.jsonl")
    )
    final, of_layers = ({m.name for m in metrics_at(place) if not m.optional} for place in ("final", "layer"))
    for cell in cells:
        assert final <= cell["heldout"].keys() <= {metric.name for metric in metrics_at("final")}
        assert all(layer.keys() == of_layers for layer in cell["layers"])
    told = {name for point in points for name in point} - {"cell", "step", "tokens", "measured_tokens"}
    assert {name for name, metric in curve_columns().items() if not metric.optional} <= told <= {*curve_columns()}
    for run in runs_where(reported, "small", "tags.kind = 'cell'"):
        names = {name.removeprefix("final/") for name in run.data.metrics if name.startswith("final/")}
        assert final <= names
    for trial in trials(reported, "small"):
        assert final - {"fvu"} <= trial.user_attrs.keys()


def test_the_report_lies_beside_the_studys_run_and_its_path_in_the_note(reported):
    _, parent = mlflow_runs(reported)
    assert parent.data.tags["kind"] == "study"
    names = [file.path for file in client(reported).list_artifacts(parent.info.run_id)]
    assert names == ["features.html", "figures", "report.html"]
    assert client(reported).list_artifacts(parent.info.run_id, "figures")
    note = note_of(reported)
    assert "`results/small/report.html`" in note
    assert "An axis without any effect can come out as important" in note
    assert "k 4" in note


def note_of(root: Path, study: str = "small") -> str:
    from optuna_dashboard._note import get_note_from_system_attrs

    url = f"sqlite:///{root / 'runs' / 'optuna.db'}"
    storage = optuna.storages.RDBStorage(url)
    attributes = storage.get_study_system_attrs(storage.get_study_id_from_name(study))
    return get_note_from_system_attrs(attributes, None)["body"]


def test_what_is_told_twice_is_stored_once_and_what_was_deleted_is_made_anew(reported, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(reported, root)
    monkeypatch.chdir(root)
    summary = ["report", "studies/small.yaml", "--step", "summary"]
    experiment = client(root).get_experiment_by_name("small").experiment_id

    def state():
        runs = client(root).search_runs([experiment])
        points = {run.info.run_id: len(curve(root, run.info.run_id, "heldout/fvu")) for run in runs}
        return points, [(trial.number, trial.user_attrs) for trial in trials(root)]

    before = state()
    main(summary)
    assert state() == before
    arm = runs_where(root, "small", "tags.kind = 'arm'")[0]
    client(root).delete_run(arm.info.run_id)
    main(summary)
    assert len(state()[0]) == len(before[0])
    assert arm.data.tags["arm"] in {run.data.tags["arm"] for run in runs_where(root, "small", "tags.kind = 'arm'")}


def test_a_report_without_databases_or_beside_a_running_sweep_is_made_all_the_same(
    reported, tmp_path, monkeypatch, capsys
):
    from harness.locks import exclusive

    root = tmp_path / "copy"
    shutil.copytree(reported, root)
    monkeypatch.chdir(root)
    summary = ["report", "studies/small.yaml", "--step", "summary"]
    with exclusive(Path("runs/small.lock")):
        Path("runs/small.lock").write_text("process 4711 on elsewhere")
        main(summary)
    said = " ".join(capsys.readouterr().out.split())
    assert "MLflow does not have this report (small: already being run by process 4711 on elsewhere" in said
    Path("runs/mlflow.db").write_bytes(b"torn" * 1000)
    main(summary)
    assert "MLflow does not have this report (MLflow at " in " ".join(capsys.readouterr().out.split())
    shutil.rmtree("runs")
    main(summary)
    assert not Path("runs").exists()


def test_lost_and_pruned_cells_leave_means_as_the_tables_have_them(tmp_path):
    """A diverged seed is reported and has no figures; an arm with a pruned one has no mean at all."""
    from harness.analysis.tables import make_tables
    from tests.analysis.synthetic_results import write_depth

    results = write_depth(tmp_path / "depth")
    lines = [json.loads(line) for line in (results / "cells.jsonl").read_text().splitlines()]
    first = lines[0]
    for line in lines:
        if (line["arm"], line["seed"]) == (first["arm"], first["seed"]):
            line |= {"state": "pruned", "heldout": None, "reason": "median"}
    (results / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    make_tables(results)
    said = published(results)
    states = {line["cell"]: line for line in lines}
    pruned = next(arm for arm in said.arms if arm.figures["pruned"])
    assert pruned.figures["n"] == 0
    assert "fvu" not in pruned.figures
    assert not any(states[cell]["arm"] == first["arm"] for cell in said.reported)
    assert "pruned" not in {states[cell]["state"] for cell in said.reported}
    assert all(math.isfinite(value) for arm in said.arms for value in arm.figures.values())
    fvu = defaultdict(list)
    for cell in said.reported & {cell for cell, line in states.items() if line["state"] == "complete"}:
        fvu[tuple(states[cell]["arm"].values())].append(states[cell]["heldout"]["fvu"])
    means = sorted(fmean(values) for values in fvu.values())
    assert means == pytest.approx(sorted(arm.figures["fvu"] for arm in said.arms if "fvu" in arm.figures))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.008, 0.016, 0.032, 0.006, 0.012], FloatDistribution(0.006, 0.032, log=True)),
        ([16, 4, 8], IntDistribution(4, 16, log=True)),
        ([1, 0.5], FloatDistribution(0.5, 1, log=True)),
        ([0.1, 0, 0.3], CategoricalDistribution([0, 0.1, 0.3])),
        (["sparse 2", "none"], CategoricalDistribution(["sparse 2", "none"])),
        (["none", 0.1], CategoricalDistribution(["none", 0.1])),
        ([8, None, 4], CategoricalDistribution([8, None, 4])),
        ([True, False], CategoricalDistribution([True, False])),
    ],
)
def test_numbers_are_numbers_and_words_stand_in_the_studys_order(levels, expected):
    """In the dashboard's slices and parallel coordinates a category stands where its choice does."""
    found = distribution(levels)
    assert found == expected
    assert str(found) == str(expected)  # equal choices in another order are equal to Optuna


@pytest.mark.parametrize(
    ("edit", "studies"), [(("4e-3]", "4e-3, 2e-2, 5e-4]"), 1), (("sparse 2]", "sparse 2, dense 1-1]"), 2)]
)
def test_levels_added_later_have_trials_too(small_study, databases, edit, studies):
    """Optuna's ranges may grow; its categories may not, so that a study with more of them is a new one."""
    shutil.copytree(databases, "runs")
    storage = Workspace(Path()).storage
    store = ActivationStore.open(Path("data/random/activations"))
    for text in (small_study.read_text(), small_study.read_text().replace(*edit)):
        small_study.write_text(text)
        study = load_study(small_study)
        asked = known(study, store.fingerprint).cells
        optuna_trials = OptunaTrials(storage, study)
        optuna_trials.keep_only({cell.id for cell in asked})
        for cell in asked:
            optuna_trials.add(cell, None, [])
        optuna_trials.close()
    assert {trial.user_attrs["cell"] for trial in trials(Path())} == {cell.id for cell in asked}
    assert len(optuna.get_all_study_names(storage)) == studies


def test_what_an_edited_study_no_longer_asks_for_is_set_aside(reported, tmp_path, monkeypatch):
    """Best trials and means are of what the study asks for now; what it asked for is kept, report and all."""
    root = tmp_path / "copy"
    shutil.copytree(reported, root)
    monkeypatch.chdir(root)
    study = Path("studies/small.yaml")
    study.write_text(study.read_text().replace("k: 4", "k: 3").replace("25_000", "2_000"))
    main(["run", "studies/small.yaml", "--workers", "1"])
    asked = [json.loads(line)["cell"] for line in Path("results/small/cells.jsonl").read_text().splitlines()]
    now = optuna.load_study(study_name="small", storage=Workspace(Path()).storage)
    assert sorted(trial.user_attrs["cell"] for trial in now.trials) == sorted(asked)
    assert {name: now.best_trial.user_attrs[name] for name in ("k", "tokens")} == {"k": 3, "tokens": 2000}
    runs, parent = mlflow_runs(root)
    assert sorted(run.data.tags["cell"] for run in runs) == sorted(asked)
    assert not runs_where(root, "small", "tags.kind = 'arm'")
    assert parent.info.status == "FINISHED"

    (aside,) = [name for name in optuna.get_all_study_names(now._storage) if name.startswith("small (until 2")]
    assert {trial.user_attrs["k"] for trial in trials(root, aside)} == {4}
    assert {trial.user_attrs["reported"] for trial in trials(root, aside)} == {"yes", "no"}
    (there,) = [e.name for e in client(root).search_experiments() if e.name.startswith("small (until 2")]
    before, parent = mlflow_runs(root, there)
    assert {run.data.params["k"] for run in before} == {"4"}
    assert {run.info.status for run in (*before, parent)} <= {"FINISHED", "KILLED"}
    assert runs_where(root, there, "tags.kind = 'arm'")

    study.write_text(study.read_text().replace("Does one more layer help?", "And now?"))
    main(["run", "studies/small.yaml", "--workers", "1"])
    assert trials(root) == now.trials
    assert "And now?" in note_of(root)
    assert optuna.load_study(study_name="small", storage=now._storage).user_attrs["question"] == "And now?"
    assert mlflow_runs(root)[1].data.tags["mlflow.note.content"].startswith("And now?\n")


def test_a_choice_that_is_made_anew_leaves_no_trial_of_the_old_one(small_study, databases, tmp_path):
    """Which reported cells are asked for is known late; an open trial of another cell ends as failed."""
    shutil.copytree(databases, "runs")
    study = load_study(small_study)
    store = ActivationStore.open(Path("data/random/activations"))
    one, two, three, *_ = known(study, store.fingerprint).cells
    result = {"state": "complete", "score": 0.5, "heldout": {"fvu": 0.5, "dead_fraction": 0.0}}
    optuna_trials = OptunaTrials(Workspace(Path()).storage, study)
    optuna_trials.add(one, None, [])
    optuna_trials.start(one.id)
    optuna_trials.add(two, None, [])
    optuna_trials.keep_only({two.id})
    assert [trial.state for trial in trials(Path())] == [TrialState.FAIL, TrialState.WAITING]
    optuna_trials.add(three, result, [{"step": 1, "heldout_fvu": 0.6}])
    optuna_trials.keep_only({two.id})
    assert not trials(Path())
    assert not optuna_trials.holds(two.id)


def test_an_edit_that_only_names_cells_otherwise_is_told(small_study, databases):
    """A tuned axis becomes one of the arms, another axis is renamed: the same cells."""
    shutil.copytree(databases, "runs")
    study = load_study(small_study)
    store = ActivationStore.open(Path("data/random/activations"))
    cell = known(study, store.fingerprint).cells[0]
    result = {"state": "complete", "reason": None, "score": 0.5, "heldout": {"fvu": 0.5}, "seconds": 1.0}
    before = replace(cell, tuned={**cell.tuned, "remedy": "none"})
    after = replace(cell, arm={**cell.arm, **cell.tuned, "cure": "none"}, tuned={}, phase="reported")
    for said in (before, after):
        optuna_trials = OptunaTrials(Workspace(Path()).storage, study)
        tracker = MlflowRuns(Workspace(Path()).tracking, Workspace(Path()).artifacts, study)
        if said is before:
            optuna_trials.add(cell, result, [])
        else:
            optuna_trials.add(replace(after, arm={**cell.arm, **cell.tuned}), result, [])
        if not tracker.finished(said, result):
            tracker.start(said)
            tracker.finish(said.id, result)
        optuna_trials.close()
    (trial,) = trials(Path())
    assert (trial.user_attrs["arm"], trial.user_attrs["phase"]) == ("none, lr 0.001", "reported")
    (run,), _ = mlflow_runs(Path())
    assert {name: run.data.tags[name] for name in ("arm", "phase")} == {
        "arm": "none, lr 0.001, none",
        "phase": "reported",
    }
    assert {name for name in run.data.tags if name.startswith("axis_")} == {"axis_cure"}


def test_a_cell_that_was_trained_to_another_result_counts_once(small_study, databases):
    shutil.copytree(databases, "runs")
    study = load_study(small_study)
    store = ActivationStore.open(Path("data/random/activations"))
    cell = known(study, store.fingerprint).cells[0]
    optuna_trials = OptunaTrials(Workspace(Path()).storage, study)
    for fvu in (0.5, 0.5, 0.6):
        result = {"state": "complete", "reason": None, "score": fvu, "heldout": {"fvu": fvu}}
        optuna_trials.add(cell, result, [{"step": 1, "heldout_fvu": fvu}])
    assert [(trial.state, trial.values) for trial in trials(Path())] == [
        (TrialState.FAIL, None),
        (TrialState.COMPLETE, [0.6]),
    ]
    assert optuna.load_study(study_name="small", storage=Workspace(Path()).storage).best_value == 0.6


def test_a_figure_that_was_measured_again_is_shown_although_the_clock_was_put_back(
    small_study, databases, monkeypatch
):
    shutil.copytree(databases, "runs")
    study = load_study(small_study)
    cell = known(study, ActivationStore.open(Path("data/random/activations")).fingerprint).cells[0]
    for fvu in (0.5, 0.4, 0.3):
        tracker = MlflowRuns(Workspace(Path()).tracking, Workspace(Path()).artifacts, study)
        tracker.start(cell)
        tracker.finish(cell.id, {"state": "complete", "reason": None, "heldout": {"fvu": fvu}, "seconds": 1.0})
        monkeypatch.setattr("harness.records.mlflow_runs._now", lambda: 1_000_000)
    (run,), _ = mlflow_runs(Path())
    assert run.data.metrics["final/fvu"] == 0.3


def test_the_report_of_a_copied_workspace_stays_in_the_copy(reported, tmp_path):
    """MLflow keeps absolute paths: a report in the copy would replace that of the original."""
    _, parent = mlflow_runs(reported)
    page = Path("runs/mlflow_artifacts", parent.info.run_id, "artifacts/report.html")
    before = (reported / page).read_bytes()
    root = tmp_path / "elsewhere, 100 %"
    shutil.copytree(reported, root)
    (root / "results/small/report.html").write_text("the copy's")
    command = [sys.executable, "-m", "harness", "report", "studies/small.yaml", "--step", "summary"]
    subprocess.run(command, cwd=root, check=True)  # a process remembers where a run's artifacts are
    assert client(root).get_run(parent.info.run_id).info.artifact_uri == (root / page).parent.as_uri()
    assert (root / page).read_text() == "the copy's"
    assert (reported / page).read_bytes() == before


def test_a_figure_that_is_no_number_is_left_out_of_mlflow(small_study, databases):
    shutil.copytree(databases, "runs")
    study = load_study(small_study)
    store = ActivationStore.open(Path("data/random/activations"))
    cell = known(study, store.fingerprint).cells[0]
    tracker = MlflowRuns(Workspace(Path()).tracking, Workspace(Path()).artifacts, study)
    tracker.start(cell)
    nan, infinite = float("nan"), float("inf")
    tracker.log(cell.id, [{"step": 1, "heldout_fvu": nan, "train_fvu": infinite, "heldout_l0": 4.0}])
    tracker.finish(cell.id, {"state": "diverged", "reason": "NaN", "heldout": {"fvu": nan}, "seconds": 1.0})
    (run,), _ = mlflow_runs(Path())
    assert run.data.metrics == {"heldout/l0": 4.0, "final/seconds": 1.0}
