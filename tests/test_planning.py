"""What `harness plan` says of the time that is left."""

import re
from pathlib import Path

import pytest

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.progress import duration
from harness.study.cells import cells
from harness.study.plan import cost
from harness.study.spec import load_study
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace
from tests.conftest import WIDTH

RATE = 1e6  # FLOPs a second, whatever the recipe


def planned(capsys, study: Path) -> str:
    main(["plan", str(study)])
    (time,) = re.findall(r"to run: about (.*?) on one worker", re.sub(r"\s+", " ", capsys.readouterr().out))
    return time


@pytest.mark.parametrize("state", ["complete", "diverged"])
def test_a_cell_counts_with_what_it_did_in_its_time(small_study, capsys, state):
    study, workspace = load_study(small_study), Workspace(Path())
    store = ActivationStore.open(study.source.store(workspace.data))
    found = cells(study, store.fingerprint)
    for number, cell in enumerate(found[:3]):
        price = cost(cell.recipe, WIDTH)
        ended = state if number else "complete"
        tokens = 256 if ended == "diverged" else price.tokens
        result = {"state": ended, "reason": None, "score": 0.5, "tokens": tokens}
        CellFolder(workspace.cell(cell.id)).path.mkdir(parents=True)
        CellFolder(workspace.cell(cell.id)).publish({**result, "seconds": price.work_on(tokens) / RATE})
    left = cost(found[3].recipe, WIDTH).work  # one tuning cell, and four whose setting is not chosen yet
    left += 2 * (cost(found[0].recipe, WIDTH).work + cost(found[2].recipe, WIDTH).work)
    assert planned(capsys, small_study) == duration(left / RATE)
