"""The cells of a study, given its activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore
    from harness.study.arms import Key
    from harness.study.cells import Score
    from harness.study.known import Known
    from harness.study.spec import Study
    from harness.workspace import Workspace


def store_of(study: Study, workspace: Workspace) -> ActivationStore:
    """The study's activations. Raises UserError if there are none, or if they do not fit the source file."""
    from harness.activations.store import ActivationStore

    folder, path = study.source.store(workspace.data), study.file.path
    if not folder.exists():
        raise UserError(
            f"{folder}: expected the activations of {path}, found none; to make them: harness run {path}"
        )
    store = ActivationStore.open(folder)
    study.source.check(store)
    return store


def known_cells(study: Study, store: ActivationStore, workspace: Workspace) -> Callable[[Score], Known]:
    """The study's cells as far as they are known, given the scores of those that have ended."""
    from harness.study.known import known

    go_on = partial(_undecided, study, store, workspace)
    return partial(known, study, store.fingerprint, go_on=go_on)


def cells_of(study: Study, workspace: Workspace) -> Known:
    """The cells known so far, from the results on disk. Raises UserError without fitting activations."""
    from harness.workers.cell_folder import CellFolder

    known = known_cells(study, store_of(study, workspace), workspace)
    return known(lambda cell: CellFolder(workspace.cell(cell), study.pruned_by).score())


def _undecided(
    study: Study, store: ActivationStore, workspace: Workspace, found: Known, going: set[Key]
) -> set[Key]:
    """Of the arms that got to a look: those that go on, by the effects of the cells so far."""
    from harness.analysis.effects.undecided import undecided_arms  # polars: half a second
    from harness.sweep.export import records

    return undecided_arms(*records(study, found, store, workspace)) & going
