"""What the dashboards say of a study in words."""

from __future__ import annotations

from dataclasses import asdict

from harness.study.grid import describe
from harness.study.spec import Study

IMPORTANCE = (
    "The report compares like with like: each arm at its best setting, paired by seed, with intervals. The "
    "hyperparameter importance of this dashboard does not: it looks at all trials, by default at the best of them "
    "alone, and treats the axes as independent, although some exist, or are varied, only beside certain levels of "
    "others. An axis without any effect can come out as important."
)


def note(study: Study, report: str | None = None) -> str:
    """Markdown. `report`: the path of the report page, where it is not the usual one."""
    recipe = {name: value for name, value in asdict(study.base).items() if name != "seed"}
    base = {name: "none" if value is None else value for name, value in recipe.items()}
    page = report or f"results/{study.name}/report.html"
    parts = [
        f"# {study.name}",
        study.question,
        f"**Report:** `{page}`, made by `harness report {study.file.path}`; it is also among the artifacts of the "
        "study's run in MLflow.",
        f"**Baseline:** {describe(study.baseline())}.",
        "**Trials:** one for each cell. `reported` is `yes` where the last report's figures are of the cell.",
        f"**Importance:** {IMPORTANCE}",
        f"**Base recipe:** {', '.join(f'{name} {value}' for name, value in base.items())}.",
    ]
    return "\n\n".join(parts) + "\n"
