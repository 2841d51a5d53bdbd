"""Times a few steps of a study's recipes on this machine, before anything is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from harness.engines.pool import ALLOCATOR
from harness.errors import UserError
from harness.estimates.machine import Machine, Widths
from harness.estimates.times import Kind, kind
from harness.study.recipe import Recipe

SECONDS = 0.5  # of steps of each kind, after those that get it ready
BUSY = 0.15  # share of the time that others may have the cores before the plan says so
MOST = 40  # kinds; the others are estimated, and scaled by these


@dataclass(frozen=True)
class Measured:
    """What came of it.

    failed: why recipes, or the model, could not be timed. model: its FLOP/s, if there is one. waited: share of
    the time in which other processes had the cores; the seconds of steps are without it.
    """

    steps: dict[Kind, tuple[Recipe, float]]
    failed: list[str]
    model: float | None
    waited: float

    @property
    def said(self) -> str:
        """What a plan that rests on it says."""
        text = f"{len(self.steps)} kinds of steps timed here now"
        if self.failed:
            text += f"; {len(self.failed)} could not be: {self.failed[0]}"
        if self.waited > BUSY:
            longer = 1 / max(1 - self.waited, 0.01)
            text += f"; others had the cores {self.waited:.0%} of the time: beside them, {longer:.1f} times that"
        return text


def measure(
    recipes: Iterable[Recipe], widths: Widths, machine: Machine, model: Mapping[str, Any] | None = None
) -> Measured:
    """Time one recipe of each kind on all workers of this machine at once. Raises UserError if none could be.

    model: of the language model that runs beside them, `config`, `context` and `dtype`.
    """
    chosen = list({kind(recipe): recipe for recipe in recipes}.values())[:MOST]
    width, target_width = widths
    asked = {
        "recipes": [asdict(recipe) for recipe in chosen],
        "width": width,
        "target_width": target_width,
        "threads": machine.threads,
        "seconds": SECONDS,
        **({} if model is None else model),
    }
    answers = _ask(asked, machine)
    steps: dict[Kind, tuple[Recipe, float]] = {}
    failed: list[str] = []
    for recipe, found in zip(chosen, zip(*answers, strict=True), strict=False):
        times = [answer["step"] for answer in found if "step" in answer]
        if times:
            steps[kind(recipe)] = recipe, fmean(times)
        else:
            failed.append(found[0]["failed"])
    if not steps:
        raise UserError(f"--measure: no step could be timed: {failed[0]}")
    waits = [answer["waited"] for line in answers for answer in line if "waited" in answer]
    failed += [line[-1]["failed"] for line in answers[:1] if len(line) > len(chosen) and "failed" in line[-1]]
    speeds = [answer["model"] for line in answers for answer in line if "model" in answer]
    return Measured(steps, failed, fmean(speeds) if speeds else None, median(waits))


def _ask(asked: dict[str, Any], machine: Machine) -> list[list[dict[str, Any]]]:
    """The lines that each worker answers. Raises UserError if one of them ends early."""
    environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(machine.threads)}
    workers = range(machine.workers)
    devices = ["cpu" if machine.is_cpu else f"cuda:{worker % machine.gpus}" for worker in workers]
    clocks = [_start(environment) for _ in devices]
    try:
        for clock, device in zip(clocks, devices, strict=True):
            assert clock.stdin is not None
            clock.stdin.write(json.dumps({**asked, "device": device}))
            clock.stdin.close()
            clock.stdin = None  # said: `communicate` need not
        return [_lines(clock) for clock in clocks]
    finally:
        for clock in clocks:
            clock.kill()
            clock.wait()


def _start(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness.workers.step_clock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        text=True,
    )


def _lines(clock: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, errors = clock.communicate()
    if clock.returncode:
        said: Sequence[str] = errors.strip().splitlines() or [f"exit code {clock.returncode}"]
        raise UserError(f"--measure: a worker that times steps has ended: {said[-1]}")
    return [json.loads(line) for line in out.splitlines()]
