"""Which trained SAEs stay on disk: those of the cells that some study of the workspace keeps.

`runs/<study>.kept.json` names the cells of one study. A sweep begins by naming all cells whose SAEs its study
may come to keep, and those that it kept before; when it is done, it names the ones that it does keep, and deletes
every SAE that no study names. Whatever is interrupted, nothing that is named is deleted, and the next sweep that
is done deletes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import print_once, read_record, write_json
from harness.locks import exclusive
from harness.workers.cell_folder import CellFolder

if TYPE_CHECKING:
    from harness.study.cells import CellSpec
    from harness.study.spec import Study
    from harness.workspace import Workspace

PATIENCE = 60.0  # seconds that other sweeps have for reading and deleting


def may_keep(study: Study, cells: Iterable[CellSpec]) -> set[str]:
    """Of all cells that a study can ask for, those whose SAEs it may keep in the end."""
    kept = {"none": (), "reported": ("reported",), "all": ("tuning", "reported")}[study.keep]  # phases
    return {cell.id for cell in cells if cell.phase in kept}


class KeptSAEs:
    """What one study keeps, among the others of its workspace."""

    def __init__(self, workspace: Workspace, study: str) -> None:
        self._workspace = workspace
        self._path = workspace.kept(study)
        self._cells = self._read_own()

    @property
    def cells(self) -> frozenset[str]:
        """Cells whose SAEs the study keeps; while its sweep is not done, those that it may come to keep."""
        return frozenset(self._cells)

    def add(self, cells: Iterable[str]) -> None:
        """Keep these, too."""
        with self._alone():
            self._write(self._read_own() | set(cells))

    def keep_only(self, cells: Iterable[str]) -> None:
        """Keep just these, and delete the SAEs that no study keeps.

        Does neither if another sweep of the study has begun meanwhile, which may keep others.
        """
        with self._alone():
            if self._read_own() != self._cells:
                return
            self._write(set(cells))
            self._delete(path.parent.name for path in self._workspace.cell("").glob("*/sae"))

    def drop(self, cell: str) -> None:
        """Delete the SAE of a cell that has ended, unless some study keeps it."""
        if cell not in self._cells:
            with self._alone():
                self._delete([cell])

    def gone(self) -> int:
        """How many of these cells were trained, and have no SAE any more."""
        folders = [CellFolder(self._workspace.cell(cell)) for cell in self._cells]
        results = [folder.result() for folder in folders if not folder.keeps_sae()]
        return sum(result is not None and result["state"] == "complete" for result in results)

    def _delete(self, cells: Iterable[str]) -> None:
        kept: set[str] = set()
        for path in self._workspace.runs.glob("*.kept.json"):
            record = read_record(path, ("cells",))
            if record is None:
                print_once(f"{path}: what it keeps is not known, so no trained SAE is deleted")
                return
            kept |= set(record["cells"])
        for cell in cells:
            if cell not in kept:
                CellFolder(self._workspace.cell(cell)).drop_sae()

    def _read_own(self) -> set[str]:
        return set((read_record(self._path, ("cells",)) or {"cells": ()})["cells"])

    def _write(self, cells: set[str]) -> None:
        self._cells = cells
        write_json(self._path, {"cells": sorted(cells)})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other sweep says what it keeps, or deletes."""
        lock = self._workspace.runs / "kept"  # no study's own: these have an extension
        with exclusive(lock, PATIENCE) as mine:
            if not mine:
                raise UserError(f"{lock}: expected other sweeps to let go of it within {PATIENCE:g} seconds")
            yield
