"""What a sweep leaves for the tables, free of anything that varies from run to run (times, paths, order of work):
study.json, cells.jsonl and curves.jsonl, and what was found about latents, where that is asked for; and for the
reader provenance.json, which has just what varies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.activations.massive import measured
from harness.activations.store import ActivationStore
from harness.errors import UserError
from harness.evaluation.measurements import measurements
from harness.files import write_json, write_json_lines
from harness.study.cells import CellSpec
from harness.study.designed import designed
from harness.study.known import Known, asked_levels
from harness.study.plan import cost
from harness.study.spec import Study
from harness.sweep.kept_saes import KeptSAEs
from harness.sweep.latents import StudyLatents
from harness.sweep.provenance import FILE as PROVENANCE
from harness.sweep.provenance import write_provenance
from harness.sweep.references import reference_records
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace

LATENTS = ("latents.parquet", "latent_scores.parquet")  # harness/interpretability/tables.py
FILES = ("study.json", "cells.jsonl", "curves.jsonl", *LATENTS)


def check_owner(results: Path, study: Study, workspace: Workspace) -> None:
    """Raise UserError if this folder holds the results of another study."""
    path = results / "study.json"
    if not path.exists():
        return
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))["file"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: file: expected the study that made these results") from None
    if owner != workspace.file(study.file.path):
        raise UserError(
            f"{path}: file: these are the results of {owner}; expected those of {study.file.path} "
            "(move them, or choose another folder with --results)"
        )


def export(study: Study, found: Known, store: ActivationStore, workspace: Workspace, results: Path) -> None:
    """Write the files. A cell without a result is there too, as failed or missing; without rows in the tables of
    latents, which are empty where a study asks nothing about these.

    `cells` in study.json counts all that the study asks for, also those that depend on results to come.
    """
    check_owner(results, study, workspace)
    results.mkdir(parents=True, exist_ok=True)
    ended = _ended(study, found, store, workspace)
    summary, rows = _records(study, found, store, workspace, ended)
    points = [
        {"cell": cell.id, **point}
        for cell, folder, outcome in ended
        for point in folder.points()
        if outcome["state"] != "pruned" or point["tokens"] <= outcome["tokens"]  # its worker went on for a moment
    ]
    if _differ(rows, results / "cells.jsonl") or not (results / PROVENANCE).exists():
        write_provenance(results, [cell.id for cell, _, _ in ended], [folder.path for _, folder, _ in ended])
    write_json_lines(results / "cells.jsonl", rows)
    write_json_lines(results / "curves.jsonl", points)
    summary["curve_tokens"] = max((point.get("measured_tokens", 0) for point in points), default=0)
    if references := reference_records(study, store, workspace):
        summary["references"] = references
    latents = StudyLatents(study, workspace, store)
    if study.interpretability is not None:
        summary["interpretability"] = study.interpretability.model_dump(mode="json")
        summary["nulls"] = latents.nulls.records()
    _write_latents(latents, [cell.id for cell in found.cells], results)
    write_json(results / "study.json", summary)


def _write_latents(latents: StudyLatents, cells: list[str], results: Path) -> None:
    from harness.interpretability.tables import write_together  # pyarrow: a third of a second

    write_together({cell: latents.folder / cell for cell in cells if latents.figures(cell) is not None}, results)


def _differ(rows: list[dict[str, Any]], path: Path) -> bool:
    """Whether the file does not hold these rows."""
    return not path.exists() or path.read_text(encoding="utf-8") != "".join(json.dumps(row) + "\n" for row in rows)


def records(
    study: Study, found: Known, store: ActivationStore, workspace: Workspace
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What study.json and cells.jsonl would hold of these cells, but for figures of curves and of references."""
    return _records(study, found, store, workspace, _ended(study, found, store, workspace))


Ended = list[tuple[CellSpec, CellFolder, dict[str, Any]]]  # each cell, its folder, and what has become of it


def _ended(study: Study, found: Known, store: ActivationStore, workspace: Workspace) -> Ended:
    asked = measurements(store.fingerprint, store.text_fingerprint)
    latents = StudyLatents(study, workspace, store)
    ended = []
    for cell in found.cells:
        folder = CellFolder(workspace.cell(cell.id), study.pruned_by)
        outcome = folder.outcome(asked, cell.recipe) or folder.failure() or {"state": "missing", "reason": None}
        ended.append((cell, folder, latents.added(cell.id, outcome)))
    return ended


def _records(
    study: Study, found: Known, store: ActivationStore, workspace: Workspace, ended: Ended
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kept = KeptSAEs(workspace, study.name).cells
    rows = []
    for cell, folder, outcome in ended:
        keeps = outcome["state"] == "complete" and cell.id in kept and folder.keeps_sae()
        sae = folder.sae.relative_to(workspace.root).as_posix() if keeps else None
        rows.append(_row(cell, outcome, store, sae))
    summary = {
        "name": study.name,
        "file": workspace.file(study.file.path),
        **_describe(study, found, store),
        "cells": found.size,
        "environment": _environment([outcome for _, _, outcome in ended if "torch" in outcome]),
    }
    return summary, rows


def _row(cell: CellSpec, outcome: dict[str, Any], store: ActivationStore, sae: str | None) -> dict[str, Any]:
    """`sae`: the folder of the trained SAE, from the workspace's root; None where the study does not keep it."""
    price = cost(cell.recipe, store.width, target_width=store.targets.width if store.targets else None)
    return {
        "cell": cell.id,
        "arm": cell.arm,
        "tuned": cell.tuned,
        "seed": cell.recipe.seed,
        "state": outcome["state"],
        "reason": outcome["reason"],
        "sae": sae,
        **({"score": outcome["score"]} if "score" in outcome else {}),
        "heldout": outcome.get("heldout"),
        "layers": outcome.get("layers", []),
        **({"not_measured": lacking} if (lacking := outcome.get("not_measured")) else {}),
        **({"calibration": outcome["calibration"]} if "calibration" in outcome else {}),
        "parameters": price.parameters,
        "flops_per_token": price.flops_per_token,
        "tokens": outcome.get("tokens", 0),
        **({"micro_batches": parts} if (parts := outcome.get("micro_batches", 1)) > 1 else {}),
        **({"last": outcome["last"]} if outcome["state"] == "pruned" else {}),
    }


def _describe(study: Study, found: Known, store: ActivationStore) -> dict[str, Any]:
    source = {"name": study.source.name, "width": store.width, "fingerprint": store.fingerprint}
    return {
        "question": study.question,
        "axes": asked_levels(study, found.extensions),
        "settings": {axis.name: dict(axis.bundles) for axis in study.axes if axis.bundles},
        "tuned": [axis.name for axis in study.axes if axis.tune],
        "baseline": study.baseline(),
        "design": study.design.kind,
        "designed": designed(study),
        **({"ranges": drawn} if (drawn := _ranges(study)) else {}),
        "seeds": found.seeds or study.seeds,
        "tuning_seeds": study.tuning_seeds,
        **({"looks": study.look_after} if study.look_after else {}),
        **({"extended": extended} if (extended := _extended(found)) else {}),
        **({"pruning": study.pruning.model_dump()} if study.pruning else {}),
        **({"indifference": dict(study.indifference)} if study.indifference else {}),
        **({"published": study.published.model_dump()} if study.published else {}),
        "recipe": {name: value for name, value in asdict(study.base).items() if name != "seed"},
        "dead_window": study.base.dead_window,
        "heldout_tokens": store.tokens("held_out"),
        "source": {
            **source,
            "hook": store.manifest["hook"],
            "outlier_severity": store.manifest["outlier_severity"],
            "measured": measured(store.manifest),
            **_targets(store),
        },
    }


def _ranges(study: Study) -> dict[str, dict[str, Any]]:
    """For each axis with ranges, what all of them together span."""
    return {
        axis.name: {
            "low": min(one.low for one in axis.ranges.values()),
            "high": max(one.high for one in axis.ranges.values()),
            "log": all(one.log for one in axis.ranges.values()),
        }
        for axis in study.axes
        if axis.ranges
    }


def _extended(found: Known) -> dict[str, list[dict[str, Any]]]:
    """By axis: the arms whose lists were extended, or are best at an end of theirs."""
    extended: dict[str, list[dict[str, Any]]] = {}
    for one in found.extensions:
        record = {"arm": one.arm, "added": one.added, "ended": one.ended}
        extended.setdefault(one.axis, []).append(record)
    return extended


def _targets(store: ActivationStore) -> dict[str, Any]:
    """What transcoders predict, where the study is of these."""
    targets = store.targets
    return {} if targets is None else {"target_hook": targets.manifest["hook"], "target_width": targets.width}


def _environment(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the first cell; and the kernels of all of them, which decide the rounding, too."""
    if not outcomes:
        return {}
    kernels = ", ".join(sorted({outcome["kernels"] for outcome in outcomes if "kernels" in outcome}))
    return {**{name: outcomes[0][name] for name in ("torch", "device", "threads")}, "kernels": kernels}


def not_measured(
    study: Study, cells: list[CellSpec], store: ActivationStore, workspace: Workspace
) -> tuple[dict[str, list[Path]], int]:
    """Cells that lack a measurement: the logs of those whose SAEs are there, by what went wrong, and how many
    whose SAEs were not kept."""
    asked = measurements(store.fingerprint, store.text_fingerprint)
    failed: dict[str, list[Path]] = {}
    not_kept = 0
    for cell in cells:
        folder = CellFolder(workspace.cell(cell.id), study.pruned_by)
        lacking = folder.stale(asked, cell.recipe)
        if lacking and not folder.keeps_sae():
            not_kept += 1
        elif lacking:
            failed.setdefault(folder.why_not_measured(lacking[0]), []).append(folder.log)
    return failed, not_kept


def without_kernels(cells: list[CellSpec], workspace: Workspace) -> int:
    """How many of these cells were trained on a CPU in plain PyTorch."""
    results = [CellFolder(workspace.cell(cell.id)).result() or {} for cell in cells]
    return sum((result.get("device"), result.get("kernels")) == ("cpu", "plain") for result in results)
