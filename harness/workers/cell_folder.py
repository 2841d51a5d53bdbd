"""A cell on disk: recipe.json and recipe.lock, lock, curve.jsonl, checkpoints/, retries.json if there were any,
and in the end result.json or failure.json; beside a result, measurements/ of its trained SAE, and sae/ as long as
a study keeps that (docs/trained_sae.md).

A cell is done when its result is there, complete or diverged; a failure is tried again by the next run. A study
that has pruned it takes it as done, too: `pruned-<pruned_by>.json` says so to that study alone, and the checkpoint
stays, so that others go on from there. A file that is damaged counts as not there; whoever reads it says so.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.evaluation.measurements import Figures, Measurement, merged, metrics_of
from harness.files import print_once, read_record, write_atomically, write_json, write_json_lines
from harness.locks import exclusive
from harness.study.recipe import Recipe

if TYPE_CHECKING:
    from harness.training.checkpoint import Checkpoints

Record = dict[str, Any]
ENDED = ("state", "reason")  # what a record of a cell's end has at least
POINT = ("step", "tokens")  # likewise a point of its curve


class CellFolder:
    """The files of one cell."""

    def __init__(self, path: Path, pruned_by: str | None = None) -> None:
        """`pruned_by`: that of the study that asks (`Study.pruned_by`)."""
        self.path = path
        self._verdict = path / f"pruned-{pruned_by}.json" if pruned_by else None
        self.curve = path / "curve.jsonl"
        self.sae = path / "sae"
        self.log = path / "log.txt"

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Its checkpoints. Imported here: torch takes two seconds, and only workers need it."""
        from harness.training.checkpoint import Checkpoints

        return Checkpoints(self.path / "checkpoints")

    def result(self) -> Record | None:
        """What the cell came to, or None while it is not done. What its study pruned is pruned, trained or not."""
        return (_read(self._verdict) if self._verdict else None) or _read(self.path / "result.json")

    def trained(self) -> bool:
        """Whether it has come to its end, whatever its study says of it."""
        return _read(self.path / "result.json") is not None

    def prune(self, point: Record, rule: str) -> None:
        """Record that the study stops this cell at this point of its curve; its worker sees it at the next one."""
        assert self._verdict is not None
        last = {name.removeprefix("heldout_"): point[name] for name in point if name.startswith("heldout_")}
        reason = f"{rule}: held-out FVU {last['fvu']:.4g} after {point['tokens']:,} tokens"
        record = {"state": "pruned", "reason": reason, "tokens": point["tokens"], "last": last}
        write_json(self._verdict, record)

    def reprieve(self) -> None:
        """Take back that the study stops this cell."""
        assert self._verdict is not None
        self._verdict.unlink(missing_ok=True)

    def failure(self) -> Record | None:
        """Why the cell last failed, or None."""
        return _read(self.path / "failure.json")

    def score(self) -> float | None:
        """Held-out FVU: infinite for a cell that is lost, None for one that has not ended."""
        result = self.result()
        if result is None:
            return None if self.failure() is None else math.inf
        return float(result["score"]) if result["state"] == "complete" else math.inf

    def publish(self, result: Record) -> None:
        """Make the result known, once and whole; checkpoints are then of no more use."""
        write_json(self.path / "result.json", result)
        (self.path / "failure.json").unlink(missing_ok=True)
        self.checkpoints.clear()

    def measured(self, measurement: Measurement, recipe: Recipe) -> Figures | None:
        """The figures of a measurement, or None where it was not made, failed, or would be made otherwise now."""
        stamp = measurement.stamp(recipe)
        record = read_record(self._measurement(measurement), stamp)
        if record is None or {name: record[name] for name in stamp} != stamp:
            return None
        figures: Figures | None = record.get("figures")
        return figures

    def record_measured(self, measurement: Measurement, recipe: Recipe, figures: Figures) -> None:
        """Write what was measured. A figure that is not finite stays one, so that tables can name it."""
        self._record(measurement, {**measurement.stamp(recipe), "figures": figures})

    def record_not_measured(self, measurement: Measurement, recipe: Recipe, reason: str) -> None:
        """Write why a measurement failed."""
        self._record(measurement, {**measurement.stamp(recipe), "reason": reason})

    def why_not_measured(self, measurement: Measurement) -> str:
        """Why its last try failed, if there was one: of it alone, or of the cell."""
        record = read_record(self._measurement(measurement)) or {}
        return str(record.get("reason") or (self.failure() or {}).get("reason") or "it was not tried")

    def _record(self, measurement: Measurement, record: Record) -> None:
        text = json.dumps(record, indent=1)  # NaN and all
        write_atomically(self._measurement(measurement), f"{text}\n".encode())

    def _measurement(self, measurement: Measurement) -> Path:
        return self.path / "measurements" / f"{measurement.name}.json"

    def stale(self, measurements: Sequence[Measurement], recipe: Recipe) -> list[Measurement]:
        """Those that a complete cell lacks."""
        result = self.result()
        if result is None or result["state"] != "complete":
            return []
        return [one for one in measurements if self.measured(one, recipe) is None]

    def to_measure(self, measurements: Sequence[Measurement], recipe: Recipe) -> bool:
        """Whether it lacks some, and its SAE was kept."""
        return self.keeps_sae() and bool(self.stale(measurements, recipe))

    def outcome(self, measurements: Sequence[Measurement], recipe: Recipe) -> Record | None:
        """Its result and what was measured: `heldout`, `layers`, and the metrics that were `not_measured`."""
        result = self.result()
        if result is None or result["state"] != "complete":
            return result
        found = [self.measured(one, recipe) for one in measurements]
        heldout, layers = merged([figures for figures in found if figures is not None])
        lacking = [one for one, figures in zip(measurements, found, strict=True) if figures is None]
        names = [name for one in lacking for name in metrics_of(one.function)]
        return {**result, "heldout": heldout or None, "layers": layers, "not_measured": names}

    def keeps_sae(self) -> bool:
        """Whether the trained SAE is there, whole: its config.json is written last and deleted first."""
        return (self.sae / "config.json").exists()

    def sae_bytes(self) -> int:
        """Room that it takes on the disk; 0 where it is not kept."""
        try:
            return sum(file.stat().st_size for file in self.sae.iterdir()) if self.keeps_sae() else 0
        except FileNotFoundError:  # another sweep has deleted it meanwhile
            return 0

    def drop_sae(self) -> None:
        """Delete the trained SAE, if it is there."""
        (self.sae / "config.json").unlink(missing_ok=True)
        shutil.rmtree(self.sae, ignore_errors=True)

    def cut_off(self) -> bool:
        """Whether it is complete, and points are missing at the end of its curve."""
        result = self.result()
        if result is None or result["state"] != "complete":
            return False
        return max((point["tokens"] for point in self.points()), default=0) < int(result["tokens"])

    def forget_result(self) -> None:
        """Have the cell trained again, from its beginning."""
        (self.path / "result.json").unlink(missing_ok=True)

    def fail(self, reason: str) -> None:
        write_json(self.path / "failure.json", {"state": "failed", "reason": reason})

    def new(self) -> bool:
        """Whether it has nothing to go on from."""
        return not (self.path / "checkpoints").exists()

    def retries(self) -> int:
        """How often it has been handed out again since its worker was lost or its memory was too small."""
        record = read_record(self.path / "retries.json", ("retries",))
        return int(record["retries"]) if record else 0

    def count_retry(self) -> None:
        """In its folder, so that the next controller knows of it."""
        write_json(self.path / "retries.json", {"retries": self.retries() + 1})

    def describe(self, record: Record) -> None:
        """Write what this cell is: for people who look into the folder, and for its SAE's config.json."""
        with exclusive(self.path / "recipe.lock", math.inf):  # controllers of two studies may start it at once
            write_json(self.path / "recipe.json", record)

    def description(self) -> Record:
        """What `describe` was given; nothing where that is not there."""
        return read_record(self.path / "recipe.json") or {}

    def points(self) -> list[Record]:
        """The curve so far, up to what is damaged. A last line that is not whole yet is left for later."""
        try:
            *lines, rest = self.curve.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        points: list[Record] = []
        for line in [*lines, rest] if b"\0" in rest else lines:  # zeros are what a power cut leaves
            point = _point(line)
            if point is None:
                kept = f"only its first {len(points)} points are kept"
                print_once(f"{self.curve.absolute()}: line {len(points) + 1} is damaged; {kept}")
                break
            points.append(point)
        return points

    def open_curve(self, step: int) -> IO[str]:
        """The curve, cut back to the points up to `step`, open for appending."""
        kept = [point for point in self.points() if point["step"] <= step]
        write_json_lines(self.curve, kept)
        return self.curve.open("a", encoding="utf-8", buffering=1)


def _read(path: Path) -> Record | None:
    return read_record(path, ENDED)


def _point(line: bytes) -> Record | None:
    try:
        point = json.loads(line)
    except ValueError:
        return None
    return point if isinstance(point, dict) and all(key in point for key in POINT) else None
