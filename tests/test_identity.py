"""What is part of a cell's identity: all code that decides its bits, and no other."""

import shutil
from pathlib import Path

import pytest

import harness
from harness.scheduling.workspace import TRAINING_CODE, code_fingerprint
from tests.test_layering import PACKAGE
from tests.test_pipeline import IRRELEVANT, closure, path_of

DECIDE = {
    "what is read of a store": ("activations/store.py", "max(start, begin)", "max(start, begin) + 0"),
    "which mean is taken away": ("activations/store.py", "np.array(self.manifest", "0 * np.array(self.manifest"),
    "how activations are centred": ("training/centring.py", ".div_(self.scale)", ""),
    "which rows are a batch": ("training/data.py", "batch_rows(step,", "batch_rows(step + 1,"),
    "whose batches a cohort sees": ("training/data.py", ".read(self._recipe, step)", ".read(self._recipe, 0)"),
    "which codes are compared with known features": ("scheduling/cell_run.py", "data.features()", "None"),
    "a step": ("training/cell.py", "self.step_index += 1", "self.step_index += 2"),
}
DECIDE_NOTHING = {
    "what a terminal shows": ("scheduling/display.py", "def update(", "def updated("),
    "what a worker tells": ("scheduling/worker.py", "BEAT_SECONDS = 0.2", "BEAT_SECONDS = 0.3"),
    "what MLflow is told": ("scheduling/tracking.py", "def finish(", "def finished_with("),
    "a plot": ("analysis/style.py", "import", "import this\nimport"),
}


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package, in the place of the one that is fingerprinted."""
    copy = shutil.copytree(PACKAGE, tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(harness, "__file__", str(copy / "__init__.py"))
    return copy


def edit(package: Path, file: str, old: str, new: str) -> None:
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", DECIDE)
def test_an_edit_of_what_decides_a_cells_bits_makes_it_another_cell(package, name):
    before = code_fingerprint()
    edit(package, *DECIDE[name])
    assert code_fingerprint() != before


@pytest.mark.parametrize("name", DECIDE_NOTHING)
def test_an_edit_of_anything_else_trains_nothing_again(package, name):
    before = code_fingerprint()
    edit(package, *DECIDE_NOTHING[name])
    assert code_fingerprint() == before


def test_all_that_a_worker_imports_counts_or_decides_no_number():
    counted = [PACKAGE / part for part in TRAINING_CODE]
    imported = closure("harness.scheduling.worker")
    left_out = {m for m in imported if not any(path_of(m).is_relative_to(part) for part in counted)}
    assert left_out <= IRRELEVANT
    assert not {m for m in imported if m.startswith(("harness.analysis", "harness.commands"))}
