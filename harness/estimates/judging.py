"""What it costs to have latents judged by a language model behind an endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.activations.store import ActivationStore
from harness.interpretability.endpoint.asking import CALLS, beyond
from harness.interpretability.endpoint.calls import Bill, total
from harness.interpretability.endpoint.preview import DryRun, at_most, bill_of
from harness.study.arms import arms
from harness.study.cells import CellSpec
from harness.study.interpretability import NULLS, Interpretability
from harness.study.judges import Endpoint
from harness.study.spec import Study
from harness.sweep.latents import StudyLatents
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace

if TYPE_CHECKING:
    from harness.interpretability.text import Text
    from harness.training.trained_sae import TrainedSAE

ENOUGH = 400  # latents that are looked at in all, to say what one costs
LEAST = 10  # of each SAE
MOST = 40  # SAEs of cells


class Left(NamedTuple):
    """SAEs whose latents are still to be judged. saes: of the cells that are trained and kept, the folders."""

    cells: int
    nulls: Sequence[str]
    saes: Sequence[Path]


def judging(
    study: Study,
    asked: Interpretability,
    judge: Endpoint,
    workspace: Workspace,
    store: ActivationStore | None,
    cells: Sequence[CellSpec],
    look: bool,
) -> list[str]:
    """Lines of a plan. look: at trained SAEs, to draw windows as they will be."""
    path = workspace.latents(study.name) / CALLS
    left = Left(_reported(study), list(NULLS), ()) if store is None else _left(study, workspace, store, cells)
    if store is not None and look and left.saes:
        bill, word = _looked_at(study, asked, judge, store, left, path), "about"
    else:
        each = at_most(asked, judge, bill_of(path, judge))
        bill, word = each.times(left.cells + len(left.nulls)), "at most"
    spent = total(bill_of(path).values())
    lines = [f"judge {judge.model} at {judge.url}: {word} {_words(bill, judge)} to come"]
    if spent.calls:
        lines.append(f"judge, so far: {_words(spent, judge)}")
    if limit := beyond(judge, spent, spent.plus(bill)):
        lines.append(
            f"warning: {limit}; that may be too little for all calls: then the run stops until it is raised"
        )
    return lines


def _reported(study: Study) -> int:
    """Cells; what a look may add is not counted."""
    return len(arms(study)) * len(study.looks[0])


def _left(study: Study, workspace: Workspace, store: ActivationStore, cells: Sequence[CellSpec]) -> Left:
    latents = StudyLatents(study, workspace, store)
    names = latents.left() if latents.cells else [cell.id for cell in cells]
    folders = [CellFolder(workspace.cell(name)) for name in names]
    saes = [folder.sae for folder in folders if folder.keeps_sae()]
    return Left(len(names) if latents.cells else _reported(study), latents.nulls.left(), saes)


def _looked_at(
    study: Study, asked: Interpretability, judge: Endpoint, store: ActivationStore, left: Left, path: Path
) -> Bill:
    """From some latents of each SAE. Imports torch, and runs the language model over the text."""
    import torch

    from harness.interpretability.nulls import null_saes
    from harness.interpretability.text import read_text
    from harness.training.trained_sae import load_sae

    device = "cuda" if torch.cuda.is_available() else "cpu"
    text = read_text(store.path, device, asked.tokens)
    folders = left.saes[:: -(-len(left.saes) // MOST)]
    latents = max(LEAST, -(-ENOUGH // len(folders)))

    def bill(saes: Iterable[TrainedSAE]) -> Bill:
        return total(_bill(sae, asked, judge, text, device, latents, path) for sae in saes)

    cells = bill(load_sae(folder, device) for folder in folders).times(left.cells / len(folders))
    if not left.nulls:
        return cells
    nulls = null_saes(store.path, study.base, device)
    return cells.plus(bill(nulls[name] for name in left.nulls))


def _bill(
    sae: TrainedSAE,
    asked: Interpretability,
    judge: Endpoint,
    text: Text,
    device: str,
    latents: int,
    path: Path,
) -> Bill:
    """Of an SAE's calls that are not answered, going by so many latents."""
    from harness.interpretability.answers import ask
    from harness.interpretability.cell import CellLatents
    from harness.interpretability.endpoint.judge import EndpointJudge
    from harness.interpretability.measure import drawn
    from harness.interpretability.windows import windows_of

    whole = CellLatents.of(sae, text, windows_of(text, asked.window, asked.seed), asked, device)
    cell = replace(whole, sample=np.random.default_rng(asked.seed).permutation(whole.sample)[:latents])
    run = DryRun(judge, path)
    ask(EndpointJudge(judge, text.tokenizer, run), drawn(cell), cell.windows, asked.seed, judge.repetitions)
    return run.bill.times(len(whole.sample) / len(cell.sample))


def _words(bill: Bill, judge: Endpoint) -> str:
    text = f"{bill.calls:,.0f} calls, {_tokens(bill.read)} tokens read and {_tokens(bill.written)} written"
    return text if judge.prices is None else f"{text}, {bill.price(judge.prices):,.2f} by its prices"


def _tokens(number: float) -> str:
    return f"{number / 1e6:,.3g}M" if number >= 1e6 else f"{number:,.0f}"
