"""dvc.yaml: it parses, its stages name the code that they run, and an edit of a plot trains nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.study.spec import load_study
from tests.test_layering import PACKAGE, imports_of, name_of

ROOT = PACKAGE.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STUDIES = PIPELINE["vars"][0]["studies"]  # study -> its source, and its null
TEXTS = ("docstrings", "docstrings_mlp", "docstrings_random")  # sources that are made of text
ALL_STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}
STAGES = {name: stage for name, stage in ALL_STAGES.items() if name not in STUDIES}
ENTRIES = {
    "corpus": "harness.activations.corpus",
    "language_model": "harness.activations.language_model",
    "activations": "harness.activations.capture",
    "synthetic": "harness.activations.synthetic",
    "sweep": "harness.workers.worker",  # and what interprets the latents of trained SAEs
    "tables": "harness.analysis.tables",
    "figures": "harness.analysis.figures",
    "report": "harness.analysis.report",
    "features": "harness.analysis.latent_page.page",
}
# How files are written, errors said and progress shown decides no result.
IRRELEVANT = {
    "harness",
    "harness.backoff",
    "harness.errors",
    "harness.files",
    *(f"harness.fingerprint{part}" for part in ("", ".code", ".modules", ".names", ".text", ".walk")),
    "harness.locks",
    "harness.progress",
    "harness.secrets",
    "harness.yaml_file",
    "harness.sae.sizes",  # comes with study/recipe.py; what the stages name of sae/ has it anyway
    "harness.activations",
    "harness.activations.folders",
    # Of pretrained models and their text, which no stage reads.
    *(f"harness.activations.{part}" for part in ("model_files", "stream_file", "windows")),
    *(f"harness.activations.{part}" for part in ("text", "text_dataset", "text_files", "text_spec")),
    *(f"harness.activations.{part}" for part in ("context_blocks", "contexts", "encoding", "window_positions")),
    "harness.activations.quiet",
    # Which cells a worker trains, and what it tells of them; the numbers are made below.
    "harness.workers.cell_folder",
    "harness.workers.job",
    "harness.workers.worker",
}


def path_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def closure(module: str) -> set[str]:
    """The modules of the package that this one needs, itself included."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        module = ahead.pop()
        if module not in found and path_of(module).exists():
            found.add(module)
            ahead += [m for m in imports_of(path_of(module)) if m.split(".")[0] == "harness"]
    return found


def code_of(stage: str) -> list[Path]:
    return [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("harness/")]


def test_every_stage_has_an_entry_here():
    assert set(ENTRIES) == set(STAGES)


@pytest.mark.parametrize("stage", ENTRIES)
def test_a_stage_depends_on_the_code_that_decides_what_it_makes(stage):
    listed = code_of(stage)
    assert all(path.exists() for path in listed)
    reached = closure(ENTRIES[stage]) | (closure("harness.interpretability.arm") if stage == "sweep" else set())
    needed = {m for m in reached if m not in IRRELEVANT and not m.startswith("harness.study")}
    missing = [m for m in sorted(needed) if not any(path_of(m).is_relative_to(path) for path in listed)]
    assert not missing


@pytest.mark.parametrize("stage", ["corpus", "language_model", "activations", "synthetic"])
def test_a_source_depends_on_the_defaults_of_its_file(stage):
    """Parameters that a source file leaves out are no parameters to DVC."""
    kind = "synthetic" if stage == "synthetic" else "docstrings"
    assert ROOT / "harness" / "sources" / f"{kind}.py" in code_of(stage)


@pytest.mark.parametrize("stage", ["corpus", "language_model", "activations", "synthetic", "sweep"])
def test_nothing_before_the_tables_depends_on_the_analysis(stage):
    assert not [path for path in code_of(stage) if "analysis" in path.relative_to(ROOT).parts]
    assert not [dep for dep in STAGES[stage]["deps"] if dep.startswith("results/")]


@pytest.mark.parametrize("earlier", ["tables", "figures"])
def test_the_plots_are_no_part_of_the_tables(earlier):
    listed = {name_of(p) for path in code_of("tables") for p in ([path] if path.is_file() else path.rglob("*.py"))}
    assert not {m for m in listed if ".plots" in m or m.endswith((".style", ".report"))}
    assert "results/${key}/report.html" not in STAGES[earlier]["deps"]


def test_dvc_reads_it(tmp_path):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", tmp_path / ".dvc")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert listed == [
        *(f"{stage}@{text}" for stage in ("corpus", "language_model", "activations") for text in TEXTS),
        "synthetic@synthetic",
        "synthetic@synthetic_nonlinear",
        *(f"{stage}@{study}" for stage in ("sweep", "tables", "figures", "report") for study in STUDIES),
        *(f"features@{study}" for study in PIPELINE["stages"]["features"]["foreach"]),
        *STUDIES,
    ]


def test_every_study_has_its_stages_and_reads_its_own_source():
    written = {path.stem for path in (ROOT / "studies").glob("*.yaml")} - {"smoke"}  # a demo, run by hand
    assert set(STUDIES) == written
    for study, item in STUDIES.items():
        loaded = load_study(ROOT / "studies" / f"{study}.yaml")
        assert loaded.source.name == item["source"]
        nulls = loaded.interpretability.nulls if loaded.interpretability else []
        assert [item["nulls"]] == (nulls or [study])
        asks = loaded.interpretability is not None
        assert asks == (study in PIPELINE["stages"]["features"]["foreach"])
        pages = ["report.html", "features.html"] if asks else ["report.html"]  # what the stage gives to MLflow
        assert ALL_STAGES[study]["deps"] == [f"results/{study}/{page}" for page in pages]
        assert f"results/{study}/figures" in PIPELINE["plots"]


STAND_IN = """#!/bin/sh
# In the place of `harness run`: what DVC needs of it.
mkdir -p results/ground_truth
for name in study.json cells.jsonl curves.jsonl latents.parquet latent_scores.parquet; do
  grep -h ' k:' "$2" > "results/ground_truth/$name"
done
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The pipeline and its code as a repository of their own, with activations and no results."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("harness", "studies"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc")
    (root / "bin").mkdir()
    (root / "bin/harness").write_text(STAND_IN)
    (root / "bin/harness").chmod(0o755)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", *author, "commit", "-q", "-m", "all"], cwd=root, check=True)
    return root


def dvc(repository: Path, *arguments: str) -> str:
    """What DVC says on standard output."""
    path = f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}"
    who = {"GIT_AUTHOR_NAME": "a", "GIT_COMMITTER_NAME": "a", "EMAIL": "a@localhost"}
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(
        command, cwd=repository, env={**os.environ, **who, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fresh_clone_shows_what_would_run(repository):
    shown = dvc(repository, "repro", "--dry", "--force", "report@ground_truth")
    commands = [line.removeprefix("> ") for line in shown.splitlines() if line.startswith("> ")]
    assert commands == [
        "harness prepare studies/sources/synthetic.yaml --step activations",
        "harness run studies/ground_truth.yaml",
        *(f"harness report studies/ground_truth.yaml --step {step}" for step in ("tables", "figures", "page")),
    ]


def test_an_experiment_shows_the_parameters_that_it_changed(repository):
    activations = repository / "data/synthetic/activations"
    activations.mkdir(parents=True)
    (activations / "manifest.json").write_text("{}")
    dvc(repository, "exp", "run", "-s", "-S", "studies/ground_truth.yaml:recipe.k=4", "sweep@ground_truth")
    assert "k: 4" in (repository / "results/ground_truth/study.json").read_text()
    assert "# as many as there are features" in (repository / "studies/ground_truth.yaml").read_text()
    shown = json.loads(dvc(repository, "exp", "show", "--json"))
    workspace = next(row for row in shown if row["rev"] == "workspace")
    assert workspace["data"]["params"]["studies/ground_truth.yaml"]["data"]["recipe"]["k"] == 4
    compiled = repository / "harness/sae/__pycache__/model.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    assert json.loads(dvc(repository, "status", "--json", "sweep@ground_truth")) == {}
