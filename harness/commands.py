"""What each command of `harness` does. Rooms are imported inside, so that `--help` and `status` start at once."""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore
    from harness.scheduling.controller import Start
    from harness.scheduling.dispatch import Options
    from harness.scheduling.workspace import Workspace
    from harness.study.cells import Cell, Score
    from harness.study.source import Source, SourceFolders, TextSource
    from harness.study.spec import Study

STEPS = ("tables", "figures", "page", "summary")
DATABASES = {"storage": "Optuna keeps its trials", "tracking": "MLflow keeps its runs"}


@dataclass(frozen=True)
class Command:
    """A command: how it is called and what it runs."""

    name: str
    help: str
    example: str
    arguments: Callable[[ArgumentParser], object]
    run: Callable[[Namespace, Console], object]


def _source_argument(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="a source file, as in studies/sources/docstrings.yaml")


def _study_argument(parser: ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help="a study file, as in studies/depth.yaml")


def _results_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, help="folder of the results (default: results/<study>)")


def _workspace(options: Namespace) -> Workspace:
    from harness.scheduling.workspace import Workspace

    return Workspace(options.root, **_addresses(options))


def _databases_arguments(parser: ArgumentParser) -> None:
    for name, use in DATABASES.items():
        rest = f"default: ${_variable(name)}, which keeps a password off the command line; else a file in runs/"
        parser.add_argument(f"--{name}", metavar="URL", help=f"where {use} ({rest})")


def _addresses(options: Namespace) -> dict[str, str]:
    """URLs of the databases, where a command uses them and they are not the workspace's own files."""
    given = {}
    for name in DATABASES:
        if text := getattr(options, name, None):
            given[name] = text, f"--{name}"
        elif name in options and (text := os.environ.get(_variable(name))):
            given[name] = text, _variable(name)
    if not given:
        return {}
    from harness.scheduling import addresses
    from harness.scheduling.workspace import Workspace

    check = {"storage": addresses.storage_url, "tracking": addresses.tracking_url}
    found = {f"{name}_url": check[name](text, said_by) for name, (text, said_by) in given.items()}
    workspace = Workspace(options.root, **found)
    addresses.check_apart(workspace.storage, workspace.tracking)
    return found


def _variable(name: str) -> str:
    return f"HARNESS_{name.upper()}"


def _load(options: Namespace) -> tuple[Study, Workspace, Path]:
    from harness.study.spec import load_study

    study = load_study(options.study)
    workspace = _workspace(options)
    results = getattr(options, "results", None) or workspace.results(study.name)
    return study, workspace, results


def _text_source(options: Namespace) -> TextSource:
    from harness.activations.folders import source_error
    from harness.study.source import TextSource, load_source

    source = load_source(options.source)
    if not isinstance(source, TextSource):
        message = f"expected a source with text; this one needs only: harness activations {source.path}"
        raise source_error(source, ("synthetic",), message)
    return source


def corpus(options: Namespace, console: Console) -> None:
    source = _text_source(options)  # before anything slow is imported

    from harness.activations.corpus import build_corpus
    from harness.study.source import SourceFolders

    stats = build_corpus(source, SourceFolders(source, _workspace(options).data).corpus)
    train, held_out = (stats["splits"][split]["tokens"] for split in ("train", "held_out"))
    console.print(f"corpus {source.name}: {train:,} + {held_out:,} tokens")


def language_model(options: Namespace, console: Console) -> None:
    source = _text_source(options)

    from harness.activations.language_model import train_language_model
    from harness.study.source import SourceFolders

    folders = SourceFolders(source, _workspace(options).data)
    metrics = train_language_model(source, folders.corpus, folders.language_model)
    results = _workspace(options).results(source.name)  # where DVC compares them with the commit's
    results.mkdir(parents=True, exist_ok=True)
    (results / "language_model.json").write_text(json.dumps(metrics, indent=1) + "\n")
    console.print(
        f"language model {source.name}: held-out loss {metrics['held_out_loss']:.3f} nats a token "
        f"(bigram {metrics['bigram_held_out_loss']:.3f})",
    )


def activations(options: Namespace, console: Console) -> None:
    from harness.study.source import SourceFolders, SyntheticSource, load_source

    source = load_source(options.source)
    folders = SourceFolders(source, _workspace(options).data)
    if isinstance(source, SyntheticSource):
        from harness.activations.synthetic import make_synthetic

        manifest = make_synthetic(source, folders.activations)
        aside = f"{source.synthetic.features:,} known features"
    else:
        from harness.activations.capture import capture_activations

        manifest = capture_activations(source, folders.corpus, folders.language_model, folders.activations)
        aside = f"{sum(manifest['special_left_out'].values()):,} special ones left out"
    tokens = manifest["tokens"]
    console.print(
        f"activations {source.name} at {source.hook}: "
        f"{tokens['train']:,} + {tokens['held_out']:,} tokens ({aside})"
    )


def _store(study: Study, workspace: Workspace) -> ActivationStore:
    """The study's activations. Raises UserError if there are none, or if they are others than it asks for."""
    from harness.activations.store import ActivationStore
    from harness.study.source import SourceFolders

    folders = SourceFolders(study.source, workspace.data)
    store = ActivationStore.open(folders.activations)
    _check_origin(store, study.source, folders)
    if study.base.batch > store.tokens("train"):
        raise study.file.error(
            ("recipe", "batch"),
            f"expected at most the {store.tokens('train')} activations of {store.path}, got {study.base.batch}",
        )
    if study.base.dead_window > store.tokens("held_out"):
        raise study.file.error(
            ("recipe", "dead_window"),
            f"expected at most the {store.tokens('held_out')} held-out tokens of {store.path}, "
            f"got {study.base.dead_window}",
        )
    return store


def _check_origin(store: ActivationStore, source: Source, folders: SourceFolders) -> None:
    """Raise UserError if the activations are not what the source file says now."""
    from harness.study.source import SyntheticSource

    again = f"make them again: harness activations {source.path}"
    if (found := store.manifest["hook"]) != source.hook:
        expected = f"expected {source.hook!r}, as {source.path} says"
        raise UserError(f"{store.path}: hook: {expected}, got {found!r}; {again}")
    if isinstance(source, SyntheticSource):
        from harness.activations.synthetic import settings_fingerprint

        if store.manifest["model_fingerprint"] != settings_fingerprint(source.synthetic):
            raise UserError(f"{store.path}: expected what {source.path} says now, got other settings; {again}")
    elif folders.language_model.exists():
        store.check_model(folders.language_model)


def _prepare(source: Source, options: Namespace, console: Console) -> None:
    """Make what is missing of a source, so that a study can be run without DVC."""
    from harness.study.source import SourceFolders, TextSource

    folders = SourceFolders(source, _workspace(options).data)
    if folders.activations.exists():
        return
    step_options = Namespace(root=options.root, source=source.path)
    if not isinstance(source, TextSource):
        activations(step_options, console)
        return
    for folder, step in (
        (folders.corpus, corpus),
        (folders.language_model, language_model),
        (folders.activations, activations),
    ):
        if not folder.exists():
            step(step_options, console)


def _known(study: Study, store: ActivationStore) -> Callable[[Score], list[Cell]]:
    """The study's cells as far as they are known, given the scores of others."""
    from harness.scheduling.workspace import code_fingerprint
    from harness.study.cells import cells

    return partial(cells, study, store.fingerprint, code_fingerprint())


def _cells(study: Study, workspace: Workspace) -> list[Cell]:
    """The cells that are known from what is on disk. Raises UserError where there are no fitting activations."""
    from harness.scheduling.cell_folder import CellFolder

    known = _known(study, _store(study, workspace))
    return known(lambda cell: CellFolder(workspace.cell(cell), study.pruned_by).score())


def plan(options: Namespace, console: Console) -> None:
    from harness.planning import show_plan

    study, workspace, _ = _load(options)
    prepared = (workspace.data / study.source.name / "activations").exists()
    cells = _cells(study, workspace) if prepared else None
    source = _store(study, workspace).fingerprint if prepared else None
    show_plan(study, workspace, cells, source, console)


def _run_arguments(parser: ArgumentParser) -> None:
    _study_argument(parser)
    _results_argument(parser)
    _databases_arguments(parser)
    parser.add_argument(
        "--workers", type=_count, help="worker processes (default: one a GPU, else one a CPU core)"
    )
    parser.add_argument("--threads", type=_count, default=1, help="CPU threads a worker (default: 1)")
    parser.add_argument(
        "--cohort",
        type=_count,
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
        "--checkpoint-seconds", type=_seconds, default=30.0, help="time between two checkpoints (default: 30)"
    )
    parser.add_argument(
        "--patience-seconds",
        type=_seconds,
        default=1800.0,
        help="a worker that has said nothing for so long hangs: it is killed, and its cells go on in another "
        "(default: 1800)",
    )


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return seconds


def run(options: Namespace, console: Console) -> None:
    from harness.scheduling.controller import Sweep
    from harness.scheduling.export import check_owner, export
    from harness.study.grid import recipes

    study, workspace, results = _load(options)
    recipes(study)  # every setting can be trained, before anything long starts
    check_owner(results, study)
    _prepare(study.source, options, console)
    store = _store(study, workspace)
    sweep = Sweep(study, _known(study, store), store, workspace, *_engine(options))
    progress = sweep.run(console)
    export(study, list(sweep.cells.values()), store, workspace, results)
    if progress.failed:
        console.print(
            f"{progress.failed} cells failed: `harness status {options.study}` says why; run again to retry them"
        )


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


def _status_arguments(parser: ArgumentParser) -> None:
    _study_argument(parser)
    _results_argument(parser)
    parser.add_argument("--follow", action="store_true", help="show it again every two seconds until all is done")


def status(options: Namespace, console: Console) -> None:
    from harness.status import show_status

    study, workspace, results = _load(options)
    while True:
        finished = show_status(study, workspace, _cells(study, workspace), results, console)
        if finished or not options.follow:
            return
        time.sleep(2)


def _report_arguments(parser: ArgumentParser) -> None:
    _study_argument(parser)
    _results_argument(parser)
    parser.add_argument("--step", choices=STEPS, help="make only this part (default: all, one after the other)")


def report(options: Namespace, console: Console) -> None:
    from harness.analysis.figures import make_figures
    from harness.analysis.report import make_report
    from harness.analysis.summary import summary
    from harness.analysis.tables import make_tables
    from harness.scheduling.export import check_owner

    study, _, results = _load(options)
    check_owner(results, study)
    if not (results / "cells.jsonl").exists():
        raise UserError(f"{results}: expected a sweep's results; make them: harness run {options.study}")

    def say(results: Path) -> None:
        console.print(summary(results))
        console.print("\nharness ui optuna    opens Optuna's dashboard\nharness ui mlflow    opens MLflow's UI")

    makers: tuple[Callable[[Path], object], ...] = (make_tables, make_figures, make_report, say)
    for step, make in zip(STEPS, makers, strict=True):
        if options.step in (None, step):
            make(results)


def _ui_arguments(parser: ArgumentParser) -> None:
    _databases_arguments(parser)
    parser.add_argument("which", nargs="?", choices=("optuna", "mlflow"), help="default: both")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--optuna-port", type=_count, default=8080)
    parser.add_argument("--mlflow-port", type=_count, default=5000)


def ui(options: Namespace, console: Console) -> None:
    from harness.servers import serve

    ports = {"optuna": options.optuna_port, "mlflow": options.mlflow_port}
    serve(
        _workspace(options),
        options.host,
        {which: ports[which] for which in ([options.which] if options.which else ports)},
        console,
    )


SOURCE = "studies/sources/docstrings.yaml"
STUDY = "studies/depth.yaml"
COMMANDS = (
    Command(
        "plan",
        "Show the cells of a study and what they would cost; run nothing.",
        f"plan {STUDY}",
        _study_argument,
        plan,
    ),
    Command(
        "run", "Run all cells of a study that have no result yet.", f"run {STUDY} --workers 2", _run_arguments, run
    ),
    Command(
        "status",
        "Show which cells are done, running, failed or missing.",
        f"status {STUDY} --follow",
        _status_arguments,
        status,
    ),
    Command(
        "report",
        "Make tables, figures and the report page of a study.",
        f"report {STUDY}",
        _report_arguments,
        report,
    ),
    Command(
        "ui",
        "Serve Optuna's dashboard and MLflow's UI on this machine.",
        "ui optuna",
        _ui_arguments,
        ui,
    ),
    Command(
        "corpus", "Collect a source's text and train its tokenizer.", f"corpus {SOURCE}", _source_argument, corpus
    ),
    Command(
        "language-model",
        "Train a source's language model.",
        f"language-model {SOURCE}",
        _source_argument,
        language_model,
    ),
    Command(
        "activations", "Capture a source's activations.", f"activations {SOURCE}", _source_argument, activations
    ),
)
