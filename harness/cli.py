"""The command line. Each command imports only the packages that it uses."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness import commands
from harness.errors import UserError
from harness.secrets import masked

# Set before these tools are imported: no telemetry and no network, unless the user has set them otherwise.
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def parser() -> argparse.ArgumentParser:
    """All commands, with their options and an example of each."""
    top = argparse.ArgumentParser(prog="harness", description="Ablation studies of sparse autoencoders.")
    top.add_argument(
        "--root",
        type=Path,
        default=Path(),
        help="folder of data/, runs/, results/ (default: the current one)",
    )
    below = top.add_subparsers(required=True, metavar="command")
    for command in commands.COMMANDS:
        sub = below.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            epilog=f"example:  harness {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
        sub.set_defaults(run=command.run, online=command.online)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit codes: 0, 1 (a bug here), 2 (a user's mistake), 3 (cells failed), 130 (stopped)."""
    options = parser().parse_args(arguments)
    os.environ.update(QUIET | ({"HF_HUB_OFFLINE": "0"} if options.online else {}) | os.environ)
    atexit.register(gc.freeze)  # freeing the objects of Optuna and MLflow one by one would take a second
    # A log file has no width: without one, rich would wrap lines at 80 columns. Names may contain no markup.
    console = Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    )
    try:
        options.run(options, console)
    except UserError as error:
        print(f"harness: {masked(error)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `harness status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("harness: stopped; the same command continues from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # a disk error that no check found before
            print(f"harness: {masked(f'{error.filename}: {error.strerror}')}", file=sys.stderr)
            sys.exit(2)
        # A bug here. The text of a library's error may contain a URL.
        print(masked(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)
