"""The cells of a study, given its activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore
    from harness.study.cells import CellSpec, Score
    from harness.study.spec import Study
    from harness.workspace import Workspace


def store_of(study: Study, workspace: Workspace) -> ActivationStore:
    """The study's activations. Raises UserError if there are none, or if they do not fit the source file."""
    from harness.activations.store import ActivationStore

    store = ActivationStore.open(study.source.store(workspace.data))
    study.source.check(store)
    return store


def known_cells(study: Study, store: ActivationStore) -> Callable[[Score], list[CellSpec]]:
    """The study's cells as far as they are known, given the scores of others."""
    from harness.study.cells import cells

    return partial(cells, study, store.fingerprint)


def cells_of(study: Study, workspace: Workspace) -> list[CellSpec]:
    """The cells known so far, from the results on disk. Raises UserError without fitting activations."""
    from harness.workers.cell_folder import CellFolder

    known = known_cells(study, store_of(study, workspace))
    return known(lambda cell: CellFolder(workspace.cell(cell), study.pruned_by).score())
