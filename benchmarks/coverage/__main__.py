"""`make coverage`: simulates studies with known effects, and says how often their tables are right."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.coverage import measure
from benchmarks.coverage.design import Scenario, truth
from benchmarks.coverage.reported import same_in_report
from benchmarks.coverage.scenarios import scenarios
from benchmarks.coverage.table import Line, markdown

STUDIES = 2000  # of each scenario: Monte Carlo error 0.5 points at 5 %
BEGIN, END = "<!-- coverage -->", "<!-- /coverage -->"


def line(scenario: Scenario, numbers: Sequence[int]) -> Line:
    """One row of the table."""
    known = truth(scenario)
    return Line.of(scenario, [measure.result(scenario, known, number) for number in numbers])


def replaced(page: str, table: str) -> str:
    """The page with the table between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"expected {BEGIN} and {END} in the page")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="simulated studies of each kind")
    parser.add_argument("--only", default="", help="only kinds of studies with this in their names")
    parser.add_argument("--out", type=Path, help=f"page to write the table into, between {BEGIN} and {END}")
    options = parser.parse_args()
    chosen = [scenario for scenario in scenarios() if options.only in scenario.name]
    began, lines = time.monotonic(), []
    with ProcessPoolExecutor(os.cpu_count()) as pool, tempfile.TemporaryDirectory() as folder:
        for made in pool.map(partial(line, numbers=range(options.studies)), chosen):
            lines.append(made)
            print(markdown([made]).splitlines()[-1], file=sys.stderr, flush=True)
        compared = sum(
            same_in_report(scenario, np.random.default_rng(number), Path(folder) / str(number))
            for number, scenario in enumerate(chosen)
        )
    minutes = (time.monotonic() - began) / 60
    said = (
        f"{options.studies:,} studies a row, ± their Monte Carlo error, in {minutes:.0f} minutes. One study of "
        "each row was also written to a folder and put through `harness report`: its verdicts are the same "
        f"there in {compared} of {len(chosen)} rows.\n"
    )
    text = f"\n{markdown(lines)}\n{said}"
    if options.out:
        options.out.write_text(replaced(options.out.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
