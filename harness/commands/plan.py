"""`harness plan`: the cells of a study and what they would cost."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console

from harness.commands.cells import cells_of, store_of
from harness.commands.command import load


def plan(options: Namespace, console: Console) -> None:
    from harness.commands.plan_table import show_plan
    from harness.study.fit import check_fits

    study, workspace, _ = load(options)
    check_fits(study, study.source.stored.tokens, study.source.path)
    prepared = study.source.store(workspace.data).exists()
    cells = cells_of(study, workspace) if prepared else None
    source = store_of(study, workspace).fingerprint if prepared else None
    show_plan(study, workspace, cells, source, console)
