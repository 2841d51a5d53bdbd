"""Exporting trained SAEs: copies with a model card, in the format of one of three packages."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.commands.command import load, results_argument
from harness.commands.paths import check_writable
from harness.errors import UserError
from harness.files import write_atomically

if TYPE_CHECKING:
    from harness.analysis.model_card import Reported
    from harness.study.spec import Study

FORMATS = ("harness", "sae_lens", "sparsify")  # as in harness.training.interchange, without importing torch
CARD = "README.md"
Row = dict[str, Any]


def export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "study",
        type=Path,
        metavar="STUDY|SAE",
        help="a study file: the kept SAEs that its tables report, each in a folder of its own; or the folder of "
        "one SAE, in any of the formats",
    )
    parser.add_argument("out", type=Path, metavar="FOLDER", help="what to write; nothing may be there yet")
    parser.add_argument(
        "--format", choices=FORMATS, default="harness", help="whose code is to load it (default: harness)"
    )
    parser.add_argument(
        "--cell", action="append", default=[], metavar="ID", help="of a study, this cell only (may be repeated)"
    )
    results_argument(parser)


def export(options: Namespace, console: Console) -> None:
    from harness.activations.folders import replacing

    if options.out.exists() and not (options.out.is_dir() and not any(options.out.iterdir())):
        raise UserError(f"{options.out}: expected a path at which there is nothing yet; nothing was written")
    check_writable(options.out.parent)
    if options.study.suffix in (".yaml", ".yml"):
        _export_study(options, console)
        return
    if options.cell:
        raise UserError(f"--cell: expected a study file before it, got {options.study}")
    if (why := _refusal(options.study, options.format)) is not None:
        raise UserError(f"{options.study}: {why}")
    with replacing(options.out, CARD) as new:
        _write(options.study, new, options.format)
    console.print(f"{options.out}: one SAE in the format of {options.format}", soft_wrap=True)


def _export_study(options: Namespace, console: Console) -> None:
    """Export those that the format has; say why the others are left out."""
    from harness.activations.folders import replacing
    from harness.analysis.model_card import Reported, list_of_saes
    from harness.analysis.results.files import read_study, read_table
    from harness.sweep.export import check_owner

    study, workspace, results = load(options)
    check_owner(results, study, workspace)
    said, arms = read_study(results), {row["arm"]: row for row in read_table(results, "arms").to_dicts()}
    rows, left_out = [], dict[str, list[str]]()
    for row in _rows(read_table(results, "seeds").to_dicts(), options):
        if (why := _refusal(workspace.root / row["sae"], options.format)) is None:
            rows.append(row)
        else:
            left_out.setdefault(why, []).append(row["cell"])
    if not rows:
        raise UserError(f"{options.study}: no SAE fits --format {options.format}: {'; '.join(left_out)}")
    source = _source_text(study)
    with replacing(options.out, CARD) as new:
        for row in rows:
            reported = Reported(said, row, arms[row["arm"]], source)
            _write(workspace.root / row["sae"], new / row["cell"], options.format, reported)
        write_atomically(new / CARD, list_of_saes(said, rows, options.format).encode())
    console.print(f"{options.out}: {len(rows)} SAEs in the format of {options.format}", soft_wrap=True)
    for why, cells in left_out.items():
        console.print(f"left out: {', '.join(cells)}: {why}", soft_wrap=True)


def _rows(seeds: list[Row], options: Namespace) -> list[Row]:
    """The rows of the seeds table that are asked for, whose SAEs are kept. Raises UserError if there are none."""
    kept = [row for row in seeds if row["sae"] is not None]
    for cell in options.cell:
        if cell not in {row["cell"] for row in kept}:
            expected = (
                "expected a cell whose SAE the study reports and keeps: the column `sae` of tables/seeds.csv"
            )
            raise UserError(f"--cell: {expected}; got {cell!r}")
    if not kept:
        raise UserError(f"{options.study}: no SAEs are kept (docs/trained_sae.md, 'Which are kept')")
    return [row for row in kept if row["cell"] in options.cell] if options.cell else kept


def _source_text(study: Study) -> str:
    return study.source.path.read_text(encoding="utf-8")


def _refusal(folder: Path, name: str) -> str | None:
    """Why an SAE cannot be written in a format. Raises UserError if the folder has none, or a damaged one."""
    from harness.training.interchange.formats import read_sae, refusal

    return refusal(read_sae(folder)[0], name)


def _write(folder: Path, out: Path, name: str, reported: Reported | None = None) -> None:
    from harness.analysis.model_card import model_card
    from harness.training.interchange.formats import read_sae, write_sae

    config, weights = read_sae(folder)
    write_atomically(out / CARD, model_card(config, name, reported).encode())
    write_sae(out, config, weights, name)
