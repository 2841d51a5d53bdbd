"""The note about a study in the dashboards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from harness import metrics
from harness.metrics import Metric, Place, metrics_at
from harness.study.labels import describe
from harness.study.spec import Study

IMPORTANCE = (
    "The report compares like with like: each arm at its best setting, with intervals. The "
    "hyperparameter importance of this dashboard does not: it looks at all trials, by default at the best of them "
    "alone, and treats the axes as independent, although some exist, or are varied, only beside certain levels of "
    "others. An axis without any effect can come out as important."
)

LATENTS = "interpretability"  # a group of metrics

RUN_METRICS: dict[Place, str] = {
    "final": "final/",
    "layer": "final/layer_1_",
    "heldout": "heldout/",
    "train": "train/",
}  # what the names of metrics begin with in MLflow, by where they are measured
ABOUT_METRICS = (
    "`final/...` is on all held-out tokens after training, `final/layer_1_...` of the first of several sparse "
    "layers; `heldout/...` and `train/...` are points of learning curves."
)


def note(study: Study, report: str | None = None) -> str:
    """Markdown. report: the path of the report page, if it is not the default one."""
    recipe = {name: value for name, value in asdict(study.base).items() if name != "seed"}
    base = {name: "none" if value is None else value for name, value in recipe.items()}
    page = report or f"results/{study.name}/report.html"
    parts = [
        f"# {study.name}",
        study.question,
        f"**Report:** `{page}`, made by `harness report {study.file.path}`; it is also among the artifacts of the "
        "study's run in MLflow.",
        f"**Baseline:** {describe(study.baseline())}.",
        "**Trials:** one per cell. `reported` is `yes` if the last report's figures include the cell.",
        f"**Importance:** {IMPORTANCE}",
        f"**Base recipe:** {', '.join(f'{name} {value}' for name, value in base.items())}.",
        "**Figures:** a trial's value is its held-out FVU; its attributes are on the same tokens. What they mean:",
        "\n".join(_line(metric, [f"`{metric.name}`"]) for metric in _asked(study, metrics_at("final"))),
    ]
    return "\n\n".join(parts) + "\n"


def mlflow_note(study: Study) -> str:
    """Markdown: the question, and what the metrics of the study's runs mean."""
    lines = [
        _line(metric, [f"`{RUN_METRICS[place]}{metric.name}`" for place in metric.places])
        for metric in _asked(study, metrics.METRICS)
    ]
    parts = [study.question, f"**Metrics:** {ABOUT_METRICS}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _asked(study: Study, listed: Iterable[Metric]) -> list[Metric]:
    """Without those of latents where the study asks nothing about these."""
    return [metric for metric in listed if metric.group != LATENTS or study.interpretability is not None]


def _line(metric: Metric, names: list[str]) -> str:
    """Those of latents by their labels alone: MLflow cuts a note off after 8,000 characters."""
    better = f"; {metric.better} is better" if metric.better else ""
    if metric.group == LATENTS:
        return f"- {', '.join(names)}: {metric.label}{better}"
    where = f" ({metric.optional})" if metric.optional else ""
    return f"- {', '.join(names)}{where}: {metric.defined()}{better}"
