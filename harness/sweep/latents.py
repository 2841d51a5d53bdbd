"""What a study finds about the latents of its SAEs (`interpretability` in its file): the pass over its cells.

`runs/<study>.latents/cells.json` names the cells that are interpreted, with those that each is compared with. Each
has a folder there. What would be made otherwise now is made again, and counts as missing until then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.activations.held_out_text import read_held_out_text
from harness.activations.store import AGAIN, ActivationStore
from harness.evaluation.measurements import LAYERS, Figures, merged
from harness.files import read_record, write_json
from harness.fingerprint import code_fingerprint
from harness.interpretability.endpoint.key import key_for
from harness.progress import track
from harness.study.cells import CellSpec
from harness.study.interpretability import Interpretability, settings_of
from harness.study.judges import Endpoint
from harness.study.spec import Study
from harness.sweep.nulls import StudyNulls
from harness.workers.cell_folder import CellFolder, Record
from harness.workspace import Workspace

if TYPE_CHECKING:
    from harness.interpretability.arm import Ended

Stamp = dict[str, Any]

ROOTS = (
    "harness.interpretability.arm:interpret_arm",
    "harness.interpretability.arm:read_on",
    "harness.interpretability.arm:rows_of",
    "harness.training.trained_sae:TrainedSAE.code",
)
ENDPOINT = "harness.interpretability.endpoint"  # decides nothing where the judge is built in
CUT = ("harness.backoff", "harness.errors", "harness.files", "harness.secrets", "harness.yaml_file")


def check_text(study: Study, store: ActivationStore) -> None:
    """Raise UserError if a study asks about latents and cannot get an answer.

    Its store may have no text to read them on, or a part of it; or the judge's key is not in the environment.
    """
    if study.interpretability is None:
        return
    about = store.manifest.get("text")
    found = 0 if about is None else int(read_held_out_text(store.path, about).kept.sum())
    if found != (tokens := store.tokens("held_out")):
        expected = f"expected the text of all {tokens:,} held-out tokens in {store.path}, found {found:,}"
        raise study.file.error(("interpretability",), f"{expected} tokens; {AGAIN}")
    if isinstance(judge := study.interpretability.judge, Endpoint):
        key_for(judge)


class StudyLatents:
    """The folder of what a study finds about its latents, and what of it is there."""

    def __init__(self, study: Study, workspace: Workspace, store: ActivationStore) -> None:
        self._study = study
        self._store = store
        self._read_on = [store.fingerprint, store.text_fingerprint]
        self.folder = workspace.latents(study.name)
        record = read_record(self._path, ("cells",)) if study.interpretability is not None else None
        # The cells to interpret, with the cells that each is compared with
        self.cells: dict[str, Stamp] = {} if record is None else record["cells"]

    @property
    def _path(self) -> Path:
        return self.folder / "cells.json"

    @property
    def asked(self) -> Interpretability:
        """What the study asks; only where it does."""
        assert self._study.interpretability is not None
        return self._study.interpretability

    @property
    def nulls(self) -> StudyNulls:
        """The untrained SAEs that are measured beside the cells."""
        return StudyNulls(self._study, self._store, self.folder, self.own)

    def own(self, cell: str) -> Stamp:
        """What decides all that is found about a cell's latents without regard to other cells."""
        return {**self._common, "cell": cell}

    @cached_property
    def _common(self) -> Stamp:
        cut = CUT if self.asked.judge.kind == "endpoint" else (*CUT, ENDPOINT)
        return {
            "code": code_fingerprint(ROOTS, cut),
            "asked": settings_of(self.asked),
            "read_on": self._read_on,
        }

    def choose(self, cells: Sequence[CellSpec]) -> None:
        """Say which cells are to be interpreted. Each is compared with those of other seeds: of its arm, and of
        the baseline."""
        baseline = self._study.baseline()

        def of(arm: Mapping[str, Any], cell: CellSpec) -> list[str]:
            return [other.id for other in cells if other.arm == arm and other.recipe.seed != cell.recipe.seed]

        chosen = {cell.id: {"others": of(cell.arm, cell), "baseline": of(baseline, cell)} for cell in cells}
        if chosen != self.cells:
            self.cells = chosen
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"cells": chosen})

    def figures(self, cell: str) -> Figures | None:
        """What was found about a cell's latents; None where that is not asked for, missing or out of date."""
        if cell not in self.cells:
            return None
        stamp = {"own": self.own(cell), "compared": self.cells[cell]}
        record = read_record(self.folder / cell / "figures.json", (*stamp, "figures"))
        if record is None or {key: record[key] for key in stamp} != stamp:
            return None
        figures: Figures = record["figures"]
        return figures

    def known(self) -> dict[str, Figures]:
        """What was found about the latents of each cell, where it was."""
        found = {cell: self.figures(cell) for cell in self.cells}
        return {cell: figures for cell, figures in found.items() if figures is not None}

    def left(self) -> list[str]:
        """Cells that are to be interpreted, and are not."""
        known = self.known()
        return [cell for cell in self.cells if cell not in known]

    def added(self, cell: str, outcome: Record) -> Record:
        """A cell's outcome with what was found about its latents, if anything is asked about them."""
        if cell not in self.cells or outcome["state"] != "complete":
            return outcome
        if (figures := self.figures(cell)) is None:
            return {**outcome, "not_measured": [*outcome.get("not_measured", ()), "interpretability"]}
        known = {**(outcome.get("heldout") or {}), LAYERS: outcome.get("layers", [])}
        heldout, layers = merged([known, figures])
        return {**outcome, "heldout": heldout, "layers": layers}


def interpret_cells(
    latents: StudyLatents, cells: Sequence[CellSpec], store: ActivationStore, workspace: Workspace, device: str
) -> dict[str, list[Path]]:
    """Interpret the cells whose latents are not: `cells` are all that have an SAE and are reported.

    Returns the logs of those that failed, by reason. Raises UserError where the text cannot be read, and where the
    judge cannot go on; what was done until then stays.
    """
    latents.choose(cells)
    left, nulls = latents.left(), latents.nulls
    if not (total := len(left) + len(nulls.left())):
        return {}
    failed: dict[str, list[Path]] = {}
    for ended in track(_interpreted(latents, cells, left, store, workspace, device), total, "latents"):
        if ended.log is not None:
            failed.setdefault(str(ended.reason), []).append(ended.log)
    return failed


def _interpreted(
    latents: StudyLatents,
    cells: Sequence[CellSpec],
    left: Sequence[str],
    store: ActivationStore,
    workspace: Workspace,
    device: str,
) -> Iterator[Ended]:
    """One arm after the other, then the nulls. Imports torch."""
    from harness.interpretability.arm import ArmOfSAEs, interpret_arm, read_on, rows_of

    folders = {cell.id: CellFolder(workspace.cell(cell.id)).sae for cell in cells}
    reading = read_on(store.path, latents.asked, latents.folder, device)
    compared_with = {name for cell in left for name in latents.cells[cell]["baseline"]}
    rows = rows_of({name: folders[name] for name in folders if name in compared_with}, reading)
    arms: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        arms[str(cell.arm)].append(cell.id)
    for names in arms.values():
        stale = {name: latents.cells[name] for name in names if name in left}
        if stale:
            arm = ArmOfSAEs({name: folders[name] for name in names}, stale)
            yield from interpret_arm(arm, latents.own, reading, rows, latents.folder)
    yield from latents.nulls.measure(reading)
