"""`harness features`: one HTML page to look at a study's latents, one by one."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.console import Console

from harness.commands.command import load, results_argument, study_argument
from harness.commands.paths import check_writable


def features_arguments(parser: ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument("arm", nargs="?", help="only this arm, as the report names it (default: all)")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: features.html in the results)"
    )
    results_argument(parser)


def features(options: Namespace, console: Console) -> None:
    from harness.analysis.latent_page.cells import chosen, missing, page_cells
    from harness.analysis.latent_page.page import make_page
    from harness.analysis.page.contents import LATENTS
    from harness.analysis.results.files import read_cells, read_study
    from harness.analysis.sentences.text import plural
    from harness.sweep.export import check_owner

    study, workspace, results = load(options)
    check_owner(results, study, workspace)
    record, folder = read_study(results), workspace.latents(study.name)
    there = page_cells(folder, record, read_cells(results, record))
    cells = chosen(there, options.arm, options.seed)
    out = options.out or results / _name(LATENTS, options)
    check_writable(out.parent)
    report = "report.html" if out.parent.resolve() == results.resolve() else ""
    left = missing(folder, there)
    total = make_page(record, cells, folder, out, report=report, missing=left)
    size = out.stat().st_size / 1e6
    nulls = sum(cell.null for cell in cells)
    of = [plural(len(cells) - nulls, "SAE")] * (nulls < len(cells)) + [plural(nulls, "null")] * (nulls > 0)
    console.print(f"{out}: {total:,} latents of {' and '.join(of)}, {size:.1f} MB", soft_wrap=True)
    if left:
        console.print(f"SAEs of the study that are not interpreted yet: {left}; harness run {options.study}")


def _name(whole: str, options: Namespace) -> str:
    """A page of some of the cells does not take the place of the whole one."""
    parts = [options.arm or "", "" if options.seed is None else f"seed {options.seed}"]
    chosen = re.sub(r"[^\w.]+", "-", " ".join(part for part in parts if part)).strip("-")
    return whole.replace(".", f"-{chosen}.") if chosen else whole
