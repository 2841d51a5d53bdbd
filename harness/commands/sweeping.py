"""What `harness run` and `harness evaluate` share: a sweep here or on a cluster, and its results."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.command import (
    count,
    databases_arguments,
    patience,
    results_argument,
    study_argument,
)
from harness.commands.paths import check_files, check_writable
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.engines.engine import Options
    from harness.study.spec import Study
    from harness.sweep.controller import Start, Sweep
    from harness.workspace import Workspace


CELLS_FAILED = 3  # exit code: DVC then takes the stage as failed, and runs it again
EXIT_CODES = """exit codes:
  0    every cell has a result (diverged and pruned cells have one, too)
  1    an error of harness itself
  2    a mistake that you can correct: one line says which
  3    some cells failed, or could not be measured; results are written, and the same command tries these again
  130  stopped by Ctrl-C, SIGTERM or SIGHUP; the same command continues from there"""


def sweep_arguments(parser: ArgumentParser) -> None:
    study_argument(parser)
    results_argument(parser)
    databases_arguments(parser)
    parser.add_argument(
        "--workers",
        type=count,
        help="worker processes (default: one per GPU, or one per CPU core if there is no GPU)",
    )
    parser.add_argument("--threads", type=count, default=1, help="CPU threads per worker (default: 1)")
    parser.add_argument(
        "--cohort",
        type=count,
        metavar="N",
        help="largest number of cells that a worker trains together on the same batches (default: 12; fewer if "
        "memory is too small or other workers would have nothing to do)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is a GPU")
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="where workers run: as processes on this machine (default), or on a Ray cluster",
    )
    parser.add_argument(
        "--address",
        default="auto",
        help="of the Ray cluster: HOST:PORT, local (a cluster for this sweep alone), or auto (default: the "
        "cluster that this machine is part of)",
    )
    parser.add_argument(
        "--patience-seconds",
        type=patience,
        default=1800.0,
        help="a worker that has sent no message for this long is killed, and its cells continue in another one "
        "(default: 1800; at least 5)",
    )


def sweep_and_export(sweep: Sweep, options: Namespace, results: Path, console: Console) -> None:
    """Run a sweep, write its results, and say what is wrong with them."""
    from harness.sweep.export import export, not_measured, without_kernels
    from harness.sweep.references import measure_references

    study, workspace, store = sweep.study, sweep.workspace, sweep.store
    measure_references(study, store, workspace, sweep.options.devices[0])
    progress = sweep.run(console)
    export(study, sweep.found(), store, workspace, results)
    if sweep.done:
        _keep_saes(study, sweep, results, console)
        export(study, sweep.found(), store, workspace, results)  # without what is gone now
    not_interpreted = _interpret(sweep, results, console)
    cells = list(sweep.cells.values())
    if plain := without_kernels(cells, workspace):
        console.print(
            f"{plain} cells were trained without compiled kernels, which takes up to twice as long and rounds "
            "differently; they need a C++ compiler (g++ or $CXX), and are not used with HARNESS_NATIVE=0",
            soft_wrap=True,
        )
    failed, not_kept = not_measured(study, cells, store, workspace)
    if not_kept:
        console.print(
            f"{not_kept} cells are not measured, since their SAEs were not kept: `harness plan {options.study}` "
            "says what training them again (--train-again) would cost",
            soft_wrap=True,
        )
    for reason, logs in failed.items():
        console.print(f"{len(logs)} cells could not be measured: {reason}; log: {logs[0]}", soft_wrap=True)
    for reason, logs in not_interpreted.items():
        console.print(
            f"the latents of {len(logs)} cells could not be interpreted: {reason}; log: {logs[0]}", soft_wrap=True
        )
    if progress.failed:
        console.print(
            f"{progress.failed} cells failed: `harness status {options.study}` says why; run again to retry them"
        )
    if progress.failed or failed or not_interpreted:
        raise SystemExit(CELLS_FAILED)


def _interpret(sweep: Sweep, results: Path, console: Console) -> dict[str, list[Path]]:
    """Find out what the study asks about latents of reported cells, once it is known which these are.

    Returns the logs of cells where that failed, by reason.
    """
    from harness.analysis.tables import reported_cells
    from harness.sweep.export import export
    from harness.sweep.latents import interpret_cells
    from harness.workers.cell_folder import CellFolder

    if sweep.study.interpretability is None or not sweep.ended:
        return {}
    reported = reported_cells(results)
    folders = {cell.id: CellFolder(sweep.workspace.cell(cell.id)) for cell in sweep.cells.values()}
    cells = [c for c in sweep.cells.values() if c.id in reported and folders[c.id].keeps_sae()]
    with sweep.alone():
        before = sweep.latents.known()
        failed = interpret_cells(sweep.latents, cells, sweep.store, sweep.workspace, sweep.options.devices[0])
        if sweep.latents.known() != before:
            sweep.record(console)
    export(sweep.study, sweep.found(), sweep.store, sweep.workspace, results)
    return failed


def _keep_saes(study: Study, sweep: Sweep, results: Path, console: Console) -> None:
    """Delete the trained SAEs that no study keeps, now that it is known which cells the tables report."""
    from harness.analysis.tables import reported_cells

    if study.keep == "reported":
        sweep.kept.keep_only(reported_cells(results))
    else:
        sweep.kept.keep_only(sweep.cells if study.keep == "all" else ())
    if gone := sweep.kept.gone():
        console.print(
            f"the SAEs of {gone} cells, which this study keeps now, are gone: to have them, delete "
            "the folders of these cells in runs/cells and run again (docs/trained_sae.md)",
            soft_wrap=True,
        )


def check_paths(study: Study, workspace: Workspace, results: Path) -> None:
    """Raise UserError if a file that the sweep writes, at any time, cannot be written."""
    from harness.sweep.export import FILES

    name = study.name
    notes = (workspace.controller(name), workspace.asked(name), workspace.finished(name), workspace.kept(name))
    check_writable(workspace.runs, workspace.cell(""), workspace.artifacts, results)
    check_files(*notes, workspace.runs / f"{name}.log", *(results / file for file in FILES))


def engine_of(options: Namespace) -> tuple[Options, Start]:
    """How the sweep runs, and what starts its workers. Raises UserError if the device or cluster is not there."""
    from harness.sweep.controller import start_here

    if options.engine == "processes":
        gpus = count_gpus() if options.device != "cpu" else 0
        return _options(options, gpus, cpu_count()), start_here
    try:
        from harness.engines.ray_pool import RayPool, connect
    except ModuleNotFoundError:
        raise UserError("--engine ray: expected Ray: pip install 'harness[ray]'") from None
    found = connect(options.address)
    return _options(options, int(found.get("GPU", 0)), int(found.get("CPU", 0)), cluster=True), RayPool


def _options(options: Namespace, gpus: int, cpus: int, *, cluster: bool = False) -> Options:
    """By default one worker per GPU, or one per `threads` CPU cores if there is no GPU."""
    from harness.engines.engine import Options

    if options.device == "cpu":
        gpus = 0
    if options.device == "cuda" and not gpus:
        raise UserError(f"--device: expected 'cpu', since {'Ray' if cluster else 'torch'} finds no GPU here")
    devices = ("cuda",) if cluster and gpus else tuple(f"cuda:{number}" for number in range(gpus))
    workers = options.workers or gpus or max(1, cpus // options.threads)
    times = options.checkpoint_seconds, options.patience_seconds
    return Options(workers, options.threads, devices or ("cpu",), *times, options.cohort)


def count_gpus() -> int:
    """GPUs that torch can use, by its own count. None where the driver is too old for it, which it warns of.

    Importing torch takes two seconds, so it is imported only if a driver has made one of the device files without
    which torch finds no GPU (NVIDIA's, those of NVIDIA's boards, AMD's, that of Linux on Windows).
    """
    if not any(any(Path("/dev").glob(name)) for name in ("nvidia*", "nvhost*", "kfd", "dxg")):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0  # the former counts what it cannot use


def cpu_count() -> int:
    """Cores that this process may use: Slurm, `taskset` and containers may give it a part of the machine's."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
