"""Running a study, here or on a cluster."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.cells import known_cells, store_of
from harness.commands.command import (
    count,
    databases_arguments,
    load,
    patience,
    results_argument,
    seconds,
    study_argument,
)
from harness.commands.paths import check_files, check_writable
from harness.commands.sources import prepare
from harness.errors import UserError
from harness.output import dispensable_output

if TYPE_CHECKING:
    from harness.scheduling.controller import Start, Sweep
    from harness.scheduling.dispatch import Options
    from harness.scheduling.workspace import Workspace
    from harness.study.spec import Study


CELLS_FAILED = 3  # exit code: DVC then takes the stage as not done, and tries again
EXIT_CODES = """exit codes:
  0    every cell has a result (one that diverged or was pruned has one, too)
  1    an error of harness itself
  2    something that you can mend: one line says what
  3    some cells failed; results are written, the same command tries these cells again
  130  stopped by Ctrl-C, SIGTERM or SIGHUP; the same command goes on from there"""


def run_arguments(parser: ArgumentParser) -> None:
    parser.description = f"{parser.description}\n\n{EXIT_CODES}"
    study_argument(parser)
    results_argument(parser)
    databases_arguments(parser)
    parser.add_argument("--workers", type=count, help="worker processes (default: one a GPU, else one a CPU core)")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads a worker (default: 1)")
    parser.add_argument(
        "--cohort",
        type=count,
        metavar="N",
        help="most cells that a worker trains in lockstep on the same batches (default: 12; never more than fit "
        "into memory, or than leaves every worker its share)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="where workers run: processes on this machine (default), or the machines of a Ray cluster",
    )
    parser.add_argument(
        "--address",
        default="auto",
        help="of the Ray cluster: HOST:PORT, local (one for this sweep alone), or auto (default: the one that "
        "this machine is part of)",
    )
    parser.add_argument(
        "--checkpoint-seconds", type=seconds, default=30.0, help="time between two checkpoints (default: 30)"
    )
    parser.add_argument(
        "--patience-seconds",
        type=patience,
        default=1800.0,
        help="a worker that has said nothing for so long hangs: it is killed, and its cells go on in another "
        "(default: 1800; at least 5)",
    )


def run(options: Namespace, console: Console) -> None:
    with dispensable_output():  # what is trained does not depend on somebody reading along
        _run(options, console)


def _run(options: Namespace, console: Console) -> None:
    from harness.scheduling.controller import Sweep
    from harness.scheduling.export import check_owner, export, without_kernels
    from harness.study.fit import check_fits

    study, workspace, results = load(options)
    check_fits(study, study.source.tokens, study.source.path)  # before anything long starts
    check_owner(results, study, workspace)
    _check_paths(study, workspace, results)
    prepare(study.source, options, console)
    store = store_of(study, workspace)
    store.verify()
    sweep = Sweep(study, known_cells(study, store), store, workspace, *_engine(options))
    progress = sweep.run(console)
    export(study, list(sweep.cells.values()), store, workspace, results)
    if progress.done == progress.cells:
        _keep_saes(study, sweep, results, console)
        export(study, list(sweep.cells.values()), store, workspace, results)  # without what is gone now
    if plain := without_kernels(list(sweep.cells.values()), workspace):
        console.print(
            f"{plain} cells were trained without compiled kernels, which takes up to twice as long and rounds "
            "differently: a C++ compiler (g++, or $CXX) makes them, unless HARNESS_NATIVE=0 leaves them out",
            soft_wrap=True,
        )
    if progress.failed:
        console.print(
            f"{progress.failed} cells failed: `harness status {options.study}` says why; run again to retry them"
        )
        raise SystemExit(CELLS_FAILED)


def _keep_saes(study: Study, sweep: Sweep, results: Path, console: Console) -> None:
    """Delete the trained SAEs that nobody keeps, now that it is known which cells the tables report."""
    from harness.analysis.tables import reported_cells

    if study.keep == "reported":
        sweep.kept.keep_only(reported_cells(results))
    else:
        sweep.kept.keep_only(sweep.cells if study.keep == "all" else ())
    if gone := sweep.kept.gone():
        console.print(
            f"{gone} cells were trained before this study kept their SAEs, which are gone: to have them, delete "
            "the folders of these cells in runs/cells and run again (docs/trained_sae.md)",
            soft_wrap=True,
        )


def _check_paths(study: Study, workspace: Workspace, results: Path) -> None:
    """Raise UserError where something cannot be written that the sweep writes here, some of it in the end."""
    from harness.scheduling.export import FILES

    name = study.name
    notes = (workspace.controller(name), workspace.asked(name), workspace.settled(name), workspace.kept(name))
    check_writable(workspace.runs, workspace.cell(""), workspace.artifacts, results)
    check_files(*notes, workspace.runs / f"{name}.log", *(results / file for file in FILES))


def _engine(options: Namespace) -> tuple[Options, Start]:
    """How the sweep runs and what starts its workers. Raises UserError if there is no such machine."""
    from harness.scheduling.controller import start_here

    if options.engine == "processes":
        gpus = _count_gpus() if options.device != "cpu" else 0
        return _options(options, gpus, os.cpu_count() or 1), start_here
    try:
        from harness.scheduling.ray_pool import RayPool, connect
    except ModuleNotFoundError:
        raise UserError("--engine ray: expected Ray: pip install 'harness[ray]'") from None
    found = connect(options.address)
    return _options(options, int(found.get("GPU", 0)), int(found.get("CPU", 0)), cluster=True), RayPool


def _options(options: Namespace, gpus: int, cpus: int, *, cluster: bool = False) -> Options:
    """One worker a GPU, else one for each `threads` CPU cores, if nobody says otherwise."""
    from harness.scheduling.dispatch import Options

    if options.device == "cpu":
        gpus = 0
    if options.device == "cuda" and not gpus:
        raise UserError(f"--device: expected 'cpu', since {'Ray' if cluster else 'torch'} finds no GPU here")
    devices = ("cuda",) if cluster and gpus else tuple(f"cuda:{number}" for number in range(gpus))
    workers = options.workers or gpus or max(1, cpus // options.threads)
    times = options.checkpoint_seconds, options.patience_seconds
    return Options(workers, options.threads, devices or ("cpu",), *times, options.cohort)


def _count_gpus() -> int:
    """GPUs that torch can use: its own count, since it alone knows what it was built for and may see.

    Importing torch takes two seconds, so it is not asked where no driver has made a device file: without one of
    these (NVIDIA's, its boards', AMD's, the one of Windows' Linux) it counts none.
    """
    if not any(any(Path("/dev").glob(name)) for name in ("nvidia*", "nvhost*", "kfd", "dxg")):
        return 0
    import torch

    return torch.cuda.device_count()
