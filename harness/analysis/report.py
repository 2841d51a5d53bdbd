"""Stage `report`: the report as one self-contained HTML page, as Markdown, and its tables for LaTeX."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.analysis.interpretability.scores import nulls
from harness.analysis.page.contents import LATENTS, Contents
from harness.analysis.page.figures import first_screen, page_figures
from harness.analysis.page.latex import latex
from harness.analysis.page.markdown import markdown
from harness.analysis.page.provenance import provenance
from harness.analysis.page.sections import shown_sections
from harness.analysis.page.templates import templates
from harness.analysis.results.files import read_provenance, study_path
from harness.analysis.sentences import certainty
from harness.analysis.sentences.answer import answer
from harness.analysis.sentences.text import listed, plural
from harness.analysis.sentences.warnings import warnings
from harness.analysis.views.view import View, load_view
from harness.errors import UserError
from harness.metrics import Metric, curve_columns, metrics_at

PAGE = Path(__file__).with_name("page")
MOST_WARNINGS = 5  # on the first screen, with how certain the answer is; the others are folded
MOST_PARTS = 4  # of a sentence; more of them are folded

CAPTIONS = {  # in the order of the page: what answers the study's question comes first
    "effects": "What each level changes against the baseline's level, all other settings equal, on {heldout:,} "
    "held-out tokens; hollow circles are undecided.",
    "dose": "Outcomes against the numbers that levels stand for, on {heldout:,} held-out tokens; hollow: no "
    "difference from the reference level was shown.",
    "frontier": "FVU against dead latents, FLOPs and L0 on {heldout:,} held-out tokens at every tuned setting of "
    "every arm, and which of them are dominated.",
    "by_k": "Normalised MSE against k on {heldout:,} held-out tokens.{published}",
    "arms": "{reconstruction} on {heldout:,} held-out tokens, with {confidence} intervals and single seeds.",
    "tradeoff": "FVU against dead latents on {heldout:,} held-out tokens, one point per arm.",
    "feature_effects": "What each level changes in the features, beside FVU, on {heldout:,} held-out tokens.",
    "features": "FVU and recovered features on {heldout:,} held-out tokens, with {confidence} intervals and "
    "single seeds.",
    "interpretability": "How well explanations of latents tell where they fire, against FVU on {heldout:,} "
    "held-out tokens, one point per arm: over all sampled latents, over alive ones, weighted by firing rate, and "
    "against hard negatives.{nulls}",
    "interpretability_effects": "What each level changes in what latents mean; hollow circles are undecided.",
    "interpretability_arms": "More of what latents mean, with {confidence} intervals and single seeds.",
    "interpretability_profiles": "Detection by how often a latent fires, and recall by how strongly.",
    "curves": "Learning curves against training tokens; held-out ones on {curve:,} held-out tokens. "
    "Latents that are silent in training are counted on training tokens, while weights change: they are not the "
    "dead latents of the tables.",
    "life": "How often living latents die and dead ones revive, against training tokens, from the first full dead "
    "window on.",
    "tuning": "FVU on {heldout:,} held-out tokens at every tuned setting; a ring marks the chosen one, the best "
    "mean of those that were compared.",
}


def make_report(results: Path) -> Path:
    """Write `report.html`, `report.md` and `tables.tex` from study.json, the tables and the figures.

    Returns the path of the page, which asks nothing of the network; without scripts it shows the same and does not
    sort. Raises UserError where tables or figures are missing.
    """
    view = load_view(results)
    contents = _contents(results, view)
    path = results / "report.html"
    path.write_text(_html(contents, view), encoding="utf-8")
    (results / "report.md").write_text(markdown(contents), encoding="utf-8")
    tables = [table for section in contents.sections for table in section.tables]
    (results / "tables.tex").write_text(latex(view.study.name, tables), encoding="utf-8")
    return path


def _contents(results: Path, view: View) -> Contents:
    figures = page_figures(results / "figures", _captions(view))
    if not figures:
        raise UserError(f"{results}: no figures: run `harness report {study_path(results)}` first")
    first, others = first_screen(figures)
    made, said, uncertain = read_provenance(results), answer(view), certainty.sentences(view)
    return Contents(
        study=view.study,
        facts=facts(view),
        date=made.get("date", ""),
        answer=said,
        uncertain=uncertain,
        warnings=warnings(view),
        first_figures=first,
        other_figures=others,
        sections=shown_sections(view, [*said, *uncertain]),
        definitions=_definitions(view),
        provenance=provenance(view, made),
    )


def _html(contents: Contents, view: View) -> str:
    environment = templates("page")
    environment.filters["plural"] = plural
    script = (PAGE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("page.html.jinja").render(
        **vars(contents),
        most_warnings=max(2, MOST_WARNINGS - len(contents.uncertain)),
        most_parts=MOST_PARTS,
        confidence=view.confidence,
        references=view.references,
        latents=LATENTS,
        reach=any(row["n"] for row in view.tables["reach"]),
        style=Markup((PAGE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",  # no other script runs, whatever the texts of a study hold
    )


def _definitions(view: View) -> list[tuple[str, str]]:
    """Label and definition of every metric on the page, those of curves and layers too."""
    curves = [metric for column, metric in curve_columns().items() if _has(view, "curves", column)]
    layers = [metric for metric in metrics_at("layer") if _has(view, "layers", metric.name)]
    metrics: dict[Metric, None] = dict.fromkeys([*view.metrics, *layers, *curves])
    return [(metric.label, metric.defined(view.dead_window).replace("`", "")) for metric in metrics]


def _has(view: View, table: str, column: str) -> bool:
    """Whether a table has any rows, and this column."""
    return any(column in row for row in view.tables[table][:1])


def _captions(view: View) -> dict[str, str]:
    published = view.study.published
    labels = [outcome.label for outcome in view.outcomes if outcome.group == "reconstruction"]
    known: dict[str, Any] = {
        "heldout": view.study.heldout_tokens,
        "confidence": view.confidence,
        "curve": view.study.curve_heldout_tokens,
        "published": f" Beside it: {published.title}. {published.note}" if published else "",
        "reconstruction": listed(labels),
        "nulls": f" Broken lines: {listed([one.label for one in nulls(view).values()])}." if nulls(view) else "",
    }
    return {name: text.format(**known) for name, text in CAPTIONS.items()}


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
