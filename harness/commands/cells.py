"""The cells of a study, given its activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore
    from harness.scheduling.workspace import Workspace
    from harness.study.cells import Cell, Score
    from harness.study.source import Source, SourceFolders
    from harness.study.spec import Study


def store_of(study: Study, workspace: Workspace) -> ActivationStore:
    """The study's activations. Raises UserError if there are none, or if they do not fit the source file."""
    from harness.activations.store import ActivationStore
    from harness.study.source import SourceFolders

    folders = SourceFolders(study.source, workspace.data)
    store = ActivationStore.open(folders.activations)
    _check_origin(store, study.source, folders)
    return store


def _check_origin(store: ActivationStore, source: Source, folders: SourceFolders) -> None:
    """Raise UserError if the activations do not match the source file."""
    from harness.study.source import SyntheticSource, TextSource

    again = f"make them again: harness activations {source.path}"
    asked: dict[str, object] = {"hook": source.hook, "width": source.width}
    if isinstance(source, TextSource):
        wanted = source.activations
        tokens = {"train": wanted.tokens, "held_out": wanted.held_out_tokens}
        asked |= {"tokens": tokens, "dtype": wanted.dtype, "seed": wanted.seed}
        asked |= {"context": source.language_model.context}
    for name, value in asked.items():
        if (found := store.manifest.get(name, value)) != value:
            expected = f"expected {value!r}, as {source.path} says"
            raise UserError(f"{store.path}: {name}: {expected}, got {found!r}; {again}")
    if isinstance(source, SyntheticSource):
        from harness.activations.synthetic import settings_fingerprint

        if store.manifest["model_fingerprint"] != settings_fingerprint(source.synthetic):
            raise UserError(f"{store.path}: expected what {source.path} says now, got other settings; {again}")
    elif folders.language_model.exists():
        store.check_model(folders.language_model)


def known_cells(study: Study, store: ActivationStore) -> Callable[[Score], list[Cell]]:
    """The study's cells as far as they are known, given the scores of others."""
    from harness.study.cells import cells

    return partial(cells, study, store.fingerprint)


def cells_of(study: Study, workspace: Workspace) -> list[Cell]:
    """The cells known so far, from the results on disk. Raises UserError without fitting activations."""
    from harness.scheduling.cell_folder import CellFolder

    known = known_cells(study, store_of(study, workspace))
    return known(lambda cell: CellFolder(workspace.cell(cell), study.pruned_by).score())
