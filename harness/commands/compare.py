"""`harness compare`: the results of several studies side by side."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.console import Console

from harness.commands.paths import check_folders
from harness.errors import UserError


def compare_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        metavar="RESULTS",
        help="folders of results, such as results/depth; also two of one study, as from two machines",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the arms to this new file, as CSV")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to this new file, as JSON")


def compare(options: Namespace, console: Console) -> None:
    from harness.analysis.studies.compared import each_two, read_results, same_arms
    from harness.commands.compare_files import write_csv, write_json
    from harness.commands.compare_table import show_comparison

    folders = options.results
    if len(folders) < 2:
        raise UserError(f"RESULTS: expected two folders or more, got {folders[0]} alone")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"RESULTS: expected each folder once, got {' '.join(map(str, folders))}")
    check_folders(*folders)
    for option, file in (("--csv", options.csv), ("--json", options.json)):
        _check_new(option, file)
    results = read_results(folders)
    groups, both = same_arms(results), each_two(results)
    show_comparison(results, groups, both, console)
    if options.csv:
        write_csv(options.csv, groups)
    if options.json:
        write_json(options.json, results, groups, both)


def _check_new(option: str, file: Path | None) -> None:
    if file is None:
        return
    if file.exists() or file.is_symlink():
        raise UserError(f"{option}: {file}: expected a file that is not there yet")
    if not file.parent.is_dir():
        raise UserError(f"{option}: {file}: expected a folder that is there, found none at {file.parent}")
