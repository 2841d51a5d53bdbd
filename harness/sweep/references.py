"""The SAEs that a study compares its own with (`references`): measured once, in `runs/references/<content>/`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from harness.activations.folders import sha256_of
from harness.activations.store import ActivationStore
from harness.errors import UserError
from harness.evaluation.measurements import measurements, merged
from harness.files import read_record, write_json
from harness.study.spec import Study
from harness.workspace import Workspace

Record = dict[str, Any]


def measure_references(study: Study, store: ActivationStore, workspace: Workspace, device: str) -> None:
    """Measure those that have not been measured, or on other data or by other code.

    Imports torch only for these. Raises UserError, which names the study file's line, for one that cannot be.
    """
    missing = [name for name in study.references if _measured(study, name, store, workspace) is None]
    if not missing:
        return
    import torch

    from harness.evaluation.references import measure_reference, open_reference
    from harness.training.data import Data

    data, asked = Data(store.path, torch.device(device)), measurements(store.fingerprint)
    for name in missing:
        try:
            sae = open_reference(study.references[name], data, study.base.dead_window)
        except UserError as failure:
            raise study.file.error(("references", name), str(failure)) from None
        figures, _ = merged(measure_reference(sae, data, asked).values())
        heldout = {metric: value if math.isfinite(value) else None for metric, value in figures.items()}
        said = {"package": sae.config.package, "latents": sae.sae.latents, "heldout": heldout}
        write_json(_path(study, name, workspace), {**_stamp(study, store), **said})


def reference_records(study: Study, store: ActivationStore, workspace: Workspace) -> dict[str, Record]:
    """What was measured of each of them: `package`, `latents`, `heldout`."""
    found = {name: _measured(study, name, store, workspace) for name in study.references}
    keys = ("package", "latents", "heldout")
    return {name: {key: record[key] for key in keys} for name, record in found.items() if record is not None}


def _stamp(study: Study, store: ActivationStore) -> Record:
    """What decides the figures besides the SAE."""
    return {one.name: one.stamp(study.base) for one in measurements(store.fingerprint)}


def _measured(study: Study, name: str, store: ActivationStore, workspace: Workspace) -> Record | None:
    path, stamp = _path(study, name, workspace), _stamp(study, store)
    record = read_record(path, (*stamp, "heldout"))
    return record if record is not None and {key: record[key] for key in stamp} == stamp else None


def _path(study: Study, name: str, workspace: Workspace) -> Path:
    """By the content of its files, whatever it is called."""
    folder = study.references[name]
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return workspace.runs / "references" / f"{sha256_of(files)[:12]}.json"
