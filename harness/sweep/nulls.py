"""Untrained SAEs beside a study's own: measured like its cells, once, in `runs/<study>.latents/null-<name>/`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.activations.store import ActivationStore
from harness.evaluation.measurements import measurements, merged
from harness.files import read_record, write_json
from harness.fingerprint import code_fingerprint
from harness.study.interpretability import NULLS
from harness.study.spec import Study

if TYPE_CHECKING:
    from harness.interpretability.arm import Ended, Reading
    from harness.training.trained_sae import TrainedSAE

Record = dict[str, Any]

ROOTS = ("harness.interpretability.nulls:null_saes", "harness.interpretability.bootstrap:latent_intervals")
FILE = "null.json"  # in its folder, written last
BY_METRIC = ("figures", "low", "high")
KEYS = ("label", "latents", *BY_METRIC)


class StudyNulls:
    """The nulls of a study that asks for interpretability. folder: of what it finds about latents.

    own: of a cell's name, the stamp of what decides all that is found about its latents.
    """

    def __init__(self, study: Study, store: ActivationStore, folder: Path, own: Callable[[str], Record]) -> None:
        self._study, self._store, self._folder, self._own = study, store, folder, own

    def path(self, name: str) -> Path:
        return self._folder / f"null-{name}"

    def stamp(self, name: str) -> Record:
        """What decides everything about a null."""
        base = self._study.base
        measured = {one.name: one.stamp(base) for one in measurements(self._store.fingerprint)}
        return {**self._own(f"null-{name}"), "null": self._code, "k": base.k, "measured": measured}

    @cached_property
    def _code(self) -> str:
        return code_fingerprint(ROOTS)

    def left(self) -> list[str]:
        """Those that are not measured, or were measured otherwise."""
        return [name for name in NULLS if self._record(name) is None]

    def records(self) -> Mapping[str, Record]:
        """Of each that is measured: label, number of latents, figures, and the ends of their intervals, by metric.

        Metrics are sorted by name, whatever their order in the file.
        """
        found = {name: self._record(name) for name in NULLS}
        return {name: _sorted(one) for name, one in found.items() if one is not None}

    def _record(self, name: str) -> Record | None:
        record = read_record(self.path(name) / FILE, ("stamp", *KEYS))
        return record if record is not None and record["stamp"] == self.stamp(name) else None

    def measure(self, reading: Reading) -> Iterator[Ended]:
        """Measure those that are left, one after another. One that fails ends nobody else.

        Raises UserError where the judge cannot go on.
        """
        if not (left := self.left()):
            return
        from harness.interpretability.arm import ended
        from harness.interpretability.nulls import null_saes

        saes = null_saes(self._store.path, self._study.base, reading.device)
        for name in left:
            yield ended(f"null-{name}", self.path(name), partial(self._measure, name, saes[name], reading))

    def _measure(self, name: str, sae: TrainedSAE, reading: Reading) -> None:
        import pyarrow.parquet as pq
        import torch

        from harness.evaluation.references import measure_reference
        from harness.interpretability.bootstrap import latent_intervals
        from harness.interpretability.measure import interpret
        from harness.interpretability.tables import ANSWERS, LATENTS
        from harness.training.data import Data

        folder, stamp = self.path(name), self.stamp(name)
        of_latents = interpret(folder, stamp, reading.cell(sae), reading.judge)
        data = Data(self._store.path, torch.device(reading.device))
        held_out = measure_reference(sae, data, measurements(self._store.fingerprint))
        figures, _ = merged([*held_out.values(), of_latents])
        latents = pq.read_table(folder / LATENTS)
        low, high = latent_intervals(latents, pq.read_table(folder / ANSWERS), reading.asked.seed)
        finite = {metric: value for metric, value in figures.items() if math.isfinite(value)}
        record = {"label": NULLS[name], "latents": len(latents), "figures": finite, "low": low, "high": high}
        write_json(folder / FILE, {"stamp": stamp, **record})


def _sorted(record: Record) -> Record:
    return {key: dict(sorted(record[key].items())) if key in BY_METRIC else record[key] for key in KEYS}
