"""All benchmarks, one after the other, as one page of Markdown."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import curve, gpu, steps
from benchmarks.shape import QUICK, SIZES, Shape
from benchmarks.turns import Effort

FULL = Effort(rounds=5, steps=3, threads=2)
SHORT = Effort(rounds=1, steps=1, threads=2)


def sections(*, quick: bool, peers: bool) -> dict[str, tuple[str, Callable[[], str]]]:
    """Name -> title and what makes the table."""
    sizes = QUICK if quick else SIZES
    base = QUICK[0] if quick else steps.BASE
    effort = SHORT if quick else FULL
    learned, length = (base, 20) if quick else (Shape(256, 4096, 32, 1024), 500)
    return {
        "step": (
            "A step of a top-k SAE, milliseconds (medians)",
            lambda: steps.against_peers(sizes, effort, peers=peers, aux=False),
        ),
        "aux": (
            "The same with aux-k, a quarter of the latents dead",
            lambda: steps.against_peers(sizes, effort, peers=peers, aux=True),
        ),
        "memory": ("Memory of a step at its peak, MiB", lambda: steps.memory(sizes, effort, peers=peers)),
        "variants": (f"Other SAEs and optimizers, {base}", lambda: steps.by_variant(base, effort)),
        "growth": (f"As one thing grows, from {base}", lambda: steps.growth(base, effort)),
        "curve": ("Losses compared with a dense reference", lambda: curve.curve(learned, length)),
        "gpu": ("A step on a GPU", lambda: gpu.section(SHORT if quick else gpu.FULL, quick=quick)),
        "grid": (
            "A grid of twelve cells, from text to results, seconds",
            lambda: _grid(effort, quick=quick, peers=peers),
        ),
        "overhead": (
            "What the harness adds to a study of one-minute cells",
            lambda: _overhead(effort, quick=quick),
        ),
        "stream": (
            "Activations made by a language model beside a cell, by tokens trained on",
            lambda: _stream(effort, quick=quick),
        ),
        "records": (
            "Cells that cost nothing, on four workers: seconds per cell, and for a restart of the finished study",
            lambda: _optuna(quick=quick),
        ),
    }


# What follows imports what a GPU machine with torch alone does not have: language models, Optuna, MLflow.


def _grid(effort: Effort, *, quick: bool, peers: bool) -> str:
    from benchmarks import grids

    return grids.grid(grids.QUICK if quick else grids.FULL, effort, peers=peers)


def _overhead(effort: Effort, *, quick: bool) -> str:
    from benchmarks import grids

    return grids.overhead(grids.QUICK if quick else grids.FULL, effort)


def _stream(effort: Effort, *, quick: bool) -> str:
    from benchmarks import streaming

    return streaming.section(streaming.QUICK if quick else streaming.FULL, effort)


def _optuna(*, quick: bool) -> str:
    from benchmarks import records

    return records.growth((20, 40) if quick else (200, 2000), servers=not quick)


def machine() -> str:
    """What this ran on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    cpu = model.partition(": ")[2] or platform.processor()
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"Measured {time.strftime('%F')} on {cpu}, {os.cpu_count()} cores{device}, torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}), two threads, float32, one allocator setting for all."
    )


def main() -> None:
    """Print the page, or write it where `--out` says as it grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = tuple(sections(quick=True, peers=False))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, not how fast")
    parser.add_argument("--only", choices=names, action="append", help="a section; may be given several times")
    parser.add_argument(
        "--peers", action="store_true", help="the peers' packages too (`make bench` installs them)"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: the terminal)")
    options = parser.parse_args()
    page = f"# Benchmarks\n\n{machine()}\n`make bench` makes this page anew.\n"
    for name, (title, make) in sections(quick=options.quick, peers=options.peers).items():
        if options.only is None or name in options.only:
            print(f"{name} ...", file=sys.stderr)
            page += f"\n## {title}\n\n{make()}"
            if options.out:
                options.out.write_text(page, encoding="utf-8")
    if not options.out:
        print(page)


if __name__ == "__main__":
    main()
