"""What Optuna and MLflow are told of a study's cells, all of it from the cells' folders."""

from __future__ import annotations

from harness.scheduling.cell_folder import CellFolder, Record
from harness.scheduling.ledger import Ledger
from harness.scheduling.tracking import Tracker
from harness.scheduling.workspace import Workspace
from harness.study.cells import Cell
from harness.study.spec import Study


class Books:
    """A trial and a run for each cell; points of its curve are passed on as they come."""

    def __init__(self, study: Study, workspace: Workspace, activations: dict[str, float]) -> None:
        """`activations`: figures of the study's activations, by name."""
        self._workspace = workspace
        self._ledger = Ledger(workspace.storage, study)
        self._tracker = Tracker(workspace.tracking, workspace.artifacts, study)
        self._tracker.describe(activations)
        self._sent: dict[str, int] = {}  # points of its curve that a cell's run has

    def folder(self, cell: str) -> CellFolder:
        return CellFolder(self._workspace.cell(cell))

    def add(self, cell: Cell) -> bool:
        """Give a cell its trial; whether it is finished, here and in its folder."""
        folder = self.folder(cell.id)
        result = folder.result()
        finished = self._ledger.add(cell, result, folder.points() if result else [])
        if result is None or not finished:
            return False
        if not self._tracker.finished(cell):
            self._tracker.start(cell)
            self.pass_on(cell.id)
            self._tracker.finish(cell.id, result)
        return True

    def started(self) -> list[str]:
        """Cells whose trial runs, such as those that a killed controller left behind."""
        return self._ledger.running()

    def start_next(self) -> str | None:
        """Start the trial of the cell that has waited longest, and say which; None when none waits."""
        return self._ledger.start_next()

    def start(self, cell: Cell) -> None:
        """Open the cell's run."""
        self._tracker.start(cell)

    def pass_on(self, cell: str) -> Record | None:
        """Pass on what has been added to the cell's curve; its last point, if it has any."""
        points = self.folder(cell).points()
        sent = self._sent.get(cell, 0)
        if len(points) > sent:
            self._tracker.log(cell, points[sent:])
            if cell in self._ledger.running():
                self._ledger.report(cell, points[sent:])
            self._sent[cell] = len(points)
        return points[-1] if points else None

    def finish(self, cell: str) -> bool:
        """Close the trial and the run of a cell that has ended; whether it has a result."""
        self.pass_on(cell)
        folder = self.folder(cell)
        result = folder.result()
        outcome = result or folder.failure() or {"state": "failed", "reason": "unknown"}
        self._ledger.finish(cell, outcome)
        self._tracker.finish(cell, outcome)
        return result is not None

    def drop_others(self) -> None:
        """Close the trials of cells that the study no longer asks for."""
        self._ledger.drop_others()

    def close(self, *, complete: bool) -> None:
        """Close the study's run."""
        self._tracker.close(complete=complete)
