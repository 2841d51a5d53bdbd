"""Where the results come from: design, activations, recipe, when, where and with which code they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.sentences.text import plural
from harness.analysis.views.view import View
from harness.study.labels import show

Entries = dict[str, Any]


def provenance(view: View, made: Entries) -> dict[str, Entries]:
    """Entries under headings. `made`: what the sweep wrote to provenance.json; empty in older results."""
    study = view.study
    axes = {axis: ", ".join(show(level) for level in levels) for axis, levels in study.axes.items()}
    seeds = {"seeds": ", ".join(str(seed) for seed in study.seeds)}
    if study.tuning_seeds:
        seeds["tuning seeds"] = ", ".join(str(seed) for seed in study.tuning_seeds)
    headings = {
        "Results": {name: _shown(value) for name, value in made.items()},
        "Environment": study.environment,
        "Design": axes | seeds | {"cells": study.cells},
        "Activations": _flat(study.source),
        "Base recipe": {name: "none" if value is None else value for name, value in study.recipe.items()},
        "Trained SAEs": _saes(view),
    }
    return {title: entries for title, entries in headings.items() if entries}


def _shown(value: Any) -> Any:
    """Several entries in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "none"
    return value


def _flat(entries: Mapping[str, Any], above: str = "") -> Entries:
    """Entries within entries as `outer inner`."""
    found: Entries = {}
    for name, value in entries.items():
        found |= _flat(value, f"{name} ") if isinstance(value, Mapping) else {above + name: value}
    return found


def _saes(view: View) -> dict[str, str]:
    """Where those of the reported cells are."""
    seeds = view.tables["seeds"]
    there = [row["sae"] for row in seeds if row.get("sae")]
    others = "; the others are not kept" if 0 < len(there) < len(seeds) else ""
    counted = {"kept": f"{len(there)} of {plural(len(seeds), 'reported cell')}{others}"}
    if not there:
        return counted
    return {**counted, "where": "column sae of tables/seeds.csv", "how": f'harness.load_sae("{there[0]}")'}
