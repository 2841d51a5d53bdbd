"""Stage `report`: one self-contained HTML page from tables and figures."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.analysis.findings import findings, headline
from harness.analysis.levels import column
from harness.analysis.text import bracket, count, halfway, listed, mean, plural, reached
from harness.analysis.view import View, load_view
from harness.analysis.warnings import warnings
from harness.errors import UserError
from harness.metrics import L0, Metric, curve_columns, metrics_at
from harness.study.labels import show

CAPTIONS = {  # in the order of the page: what answers the study's question comes first
    "effects": "What each level changes against the baseline's level, all other settings equal, on {heldout:,} "
    "held-out tokens; hollow circles are undecided.",
    "dose": "Outcomes against the numbers that levels stand for, on {heldout:,} held-out tokens; hollow: no "
    "difference from the reference level was shown.",
    "frontier": "FVU against dead latents, FLOPs and L0 on {heldout:,} held-out tokens at every tuned setting of "
    "every arm, and which of them are dominated.",
    "by_k": "Normalised MSE against k on {heldout:,} held-out tokens.{published}",
    "arms": "{reconstruction} on {heldout:,} held-out tokens, with 95 % intervals and single seeds.",
    "tradeoff": "FVU against dead latents on {heldout:,} held-out tokens, one point per arm.",
    "feature_effects": "What each level changes in the features, beside FVU, on {heldout:,} held-out tokens.",
    "features": "FVU and recovered features on {heldout:,} held-out tokens, with 95 % intervals and single seeds.",
    "curves": "Learning curves against training tokens; held-out ones on {curve:,} held-out tokens. "
    "Latents that are silent in training are counted on training tokens, while weights change: they are not the "
    "dead latents of the tables.",
    "life": "How often living latents die and dead ones revive, against training tokens, from the first full dead "
    "window on.",
    "tuning": "FVU on {heldout:,} held-out tokens at every tuned setting; a ring marks the chosen one, the best "
    "mean of those that were compared.",
}


def make_report(results: Path) -> Path:
    """Write `report.html` from study.json, the tables and the figures; returns its path.

    The page asks nothing of the network and has no scripts. Raises UserError where tables or figures are missing.
    """
    view = load_view(results)
    template = _environment().get_template("report.html.jinja")
    page = template.render(
        study=view.study,
        facts=facts(view),
        headline=headline(view),
        findings=findings(view),
        comparisons=len(view.outcomes) * sum(e["kind"] == "pair" and e["n"] > 1 for e in view.tables["effects"]),
        warnings=warnings(view),
        arms=view.arms,
        references=view.references,
        column=column,
        layers=view.tables["layers"],
        layer_metrics=_layer_metrics(view),
        metrics=_columns(view),
        definitions=_definitions(view),
        reach=_reach_baseline(view),
        baseline=None if view.baseline is None else view.baseline["arm"],
        figures=_figures(results, view),
        provenance=_provenance(view),
    )
    path = results / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _columns(view: View) -> list[Metric]:
    """The metrics in the order of the page's table: those that arms are compared by, L0 beside FVU; the others."""
    first, *others = view.outcomes
    order = [first, L0, *others]
    return order + [metric for metric in view.metrics if metric not in order]


def _definitions(view: View) -> list[tuple[str, str]]:
    """Label and definition of every metric on the page, those of curves and layers too."""
    curves = [metric for column, metric in curve_columns().items() if _has(view, "curves", column)]
    metrics = dict.fromkeys([*_columns(view), *_layer_metrics(view), *curves])
    return [(metric.label, metric.defined(view.dead_window).replace("`", "")) for metric in metrics]


def _layer_metrics(view: View) -> list[Metric]:
    return [metric for metric in metrics_at("layer") if _has(view, "layers", metric.name)]


def _has(view: View, table: str, column: str) -> bool:
    """Whether a table has any rows, and this column."""
    return any(column in row for row in view.tables[table][:1])


def facts(view: View) -> str:
    """The size of the study in one line, as in `90 cells (89 complete, 1 missing), 11 arms, 3 seeds, lr tuned
    inside each arm on 2 other seeds`."""
    states = Counter(cell["state"] for cell in view.tables["cells"])
    order = ("complete", "diverged", "pruned", "failed", "missing")
    counts = ", ".join(f"{states[state]} {state}" for state in order if states[state])
    cells = plural(len(view.tables["cells"]), "cell")
    arms, seeds = plural(len(view.arms), "arm"), plural(len(view.study.seeds), "seed")
    tuned = f", {', '.join(view.study.tuned)} tuned inside each arm" if view.study.tuned else ""
    if tuned and view.study.tuning_seeds:
        tuned += f" on {plural(len(view.study.tuning_seeds), 'other seed')}"
    return f"{cells} ({counts}), {arms}, {seeds}{tuned}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"mean": mean, "bracket": bracket, "plural": plural}
    environment.filters |= {"show": show, "count": count, "heading": _heading}
    return environment


def _heading(metric: Metric) -> str:
    """A metric's label and unit, a word on each line."""
    return metric.label.replace(" ", "\n") + ("," + metric.unit if metric.unit else "")


def _figures(results: Path, view: View) -> list[dict[str, str]]:
    published = view.study.published
    tokens: dict[str, Any] = {"heldout": view.study.heldout_tokens, "curve": view.study.curve_heldout_tokens}
    labels = [outcome.label for outcome in view.outcomes if outcome.group == "reconstruction"]
    tokens["published"] = f" Beside it: {published.title}. {published.note}" if published else ""
    figures = []
    for name, text in CAPTIONS.items():
        caption = text.format(**tokens, reconstruction=listed(labels))
        path = results / "figures" / f"{name}.svg"
        if path.is_file():
            figures.append({"caption": caption, "data": base64.b64encode(path.read_bytes()).decode("ascii")})
    if not figures:
        raise UserError(f"{results}: no figures: run `harness report studies/{results.name}.yaml` first")
    return figures


def _reach_baseline(view: View) -> dict[str, tuple[str, str, str]]:
    """For an arm that differs from the baseline in one axis: tokens to the baseline's FVU at half-time, in two
    parts, and how often it reached the baseline's final FVU."""
    baseline = view.baseline or {}
    rows = [row for row in view.tables["reach"] if row["reference_arm"] == baseline.get("arm") and row["n"]]
    return {row["arm"]: (*halfway(row), reached(row)) for row in rows}


def _provenance(view: View) -> dict[str, dict[str, Any]]:
    study = view.study
    axes = {axis: ", ".join(show(level) for level in levels) for axis, levels in study.axes.items()}
    seeds = {"seeds": ", ".join(str(seed) for seed in study.seeds)}
    if study.tuning_seeds:
        seeds["tuning seeds"] = ", ".join(str(seed) for seed in study.tuning_seeds)
    return {
        "Design": axes | seeds | {"cells": study.cells},
        "Activations": _flat(study.source),
        "Base recipe": {name: "none" if value is None else value for name, value in study.recipe.items()},
        "Environment": study.environment,
        "Trained SAEs": _saes(view),
    }


def _flat(entries: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Entries within entries as `outer inner`."""
    found: dict[str, Any] = {}
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
