"""Interpreting the SAEs of one arm: these are compared with each other, so all seeds are at hand together."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from harness.errors import UserError
from harness.files import write_atomically
from harness.interpretability.cell import CellLatents
from harness.interpretability.direction import alive_rows
from harness.interpretability.firings import Firings, firings_of
from harness.interpretability.judges import judge_of
from harness.interpretability.judging import Judge
from harness.interpretability.measure import Compared, Stamp, interpret
from harness.interpretability.text import Text, read_text
from harness.interpretability.vocabulary import write_vocabulary
from harness.interpretability.windows import Windows, windows_of
from harness.study.interpretability import Interpretability
from harness.training.trained_sae import TrainedSAE, load_sae

LOG = "log.txt"


class Ended(NamedTuple):
    """A cell that was interpreted, or the reason why it was not, and the file that says more."""

    cell: str
    reason: str | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Reading:
    """What all cells of a study are read on, and who judges."""

    text: Text
    windows: Windows
    asked: Interpretability
    judge: Judge
    device: str

    def firings(self, sae: TrainedSAE) -> Firings:
        return firings_of(sae, self.text)

    def cell(self, sae: TrainedSAE, firings: Firings | None = None) -> CellLatents:
        return CellLatents.of(sae, self.text, self.windows, self.asked, self.device, firings)


def read_on(store: Path, asked: Interpretability, folder: Path, device: str) -> Reading:
    """The text of a store, read once for all cells of a study; its words go to `folder`, for those who show it.

    Raises UserError where the store has no text, and where the judge cannot be asked.
    """
    text = read_text(store, device, asked.tokens)
    write_vocabulary(folder, text.tokenizer)
    windows = windows_of(text, asked.window, asked.seed)
    return Reading(text, windows, asked, judge_of(asked.judge, text, folder), device)


class ArmOfSAEs(NamedTuple):
    """saes: the folders of an arm's SAEs, by cell. stale: the cells to interpret, with what each is compared with:
    cells of the arm (`others`) and of the baseline (`baseline`), at other seeds."""

    saes: Mapping[str, Path]
    stale: Mapping[str, Stamp]


def rows_of(saes: Mapping[str, Path], reading: Reading) -> dict[str, Tensor]:
    """The decoder rows of living latents, by cell; none of an SAE whose latents have no rows."""
    opened = {cell: load_sae(folder, reading.device) for cell, folder in saes.items()}
    found = {cell: alive_rows(sae, reading.firings(sae)) for cell, sae in opened.items()}
    return {cell: rows for cell, rows in found.items() if rows is not None}


def interpret_arm(
    arm: ArmOfSAEs, own: Callable[[str], Stamp], reading: Reading, rows: Mapping[str, Tensor], out: Path
) -> Iterator[Ended]:
    """Interpret the stale cells of an arm, one after another. A cell that fails ends nobody else.

    own: of a cell, the stamp of what depends on it alone. Raises UserError where the judge cannot go on.
    """
    saes = {cell: load_sae(folder, reading.device) for cell, folder in arm.saes.items()}
    firings = {cell: reading.firings(sae) for cell, sae in saes.items()}
    for name, stamp in arm.stale.items():
        others: Sequence[Firings] = [firings[other] for other in stamp["others"]]
        compared = Compared(stamp, [rows[other] for other in stamp["baseline"] if other in rows], others)
        cell = reading.cell(saes[name], firings[name])
        work = partial(interpret, out / name, own(name), cell, reading.judge, compared)
        yield ended(name, out / name, work)


def ended(cell: str, folder: Path, work: Callable[[], object]) -> Ended:
    """Do this of a cell, and say how it ended: an error is whole in its log, and one line of it goes up.

    Raises UserError, which concerns all cells alike.
    """
    log = folder / LOG
    try:
        work()
    except UserError:
        raise
    except Exception as failure:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(log, traceback.format_exc().encode())
        return Ended(cell, f"{type(failure).__name__}: {failure}".splitlines()[0], log)
    log.unlink(missing_ok=True)
    return Ended(cell)
