"""What a study's design leaves open, in sentences for the report and the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.sentences.text import listed
from harness.analysis.views.view import View
from harness.study.labels import describe, show

LIMITS = {
    "one_factor": "Each axis was varied at the baseline alone: its effect elsewhere is not shown.",
    "leave_one_out": "Each component was taken out of the full recipe alone: its effect without the others is not "
    "shown.",
    "fraction": "The effect of a level is estimated from all arms together, as if axes did not interact; where "
    "they do, parts of interactions are in it.",
    "sampled": "The effect of a listed level is estimated from all arms together, as if axes did not interact and "
    "outcomes followed a parabola along each range; the figures show them against each range.",
}


def design_limits(view: View) -> Iterator[str]:
    """What the design was, and what it cannot show; nothing for a factorial."""
    if (limit := LIMITS.get(view.study.design)) is not None:
        yield f"{view.study.designed} {limit}".strip()


def effects_not_estimated(view: View) -> Iterator[str]:
    """Levels whose effect the arms of a fraction or a sample that have results cannot tell from others."""
    study = view.study
    if study.design not in ("fraction", "sampled"):
        return
    found = {(row["axis"], row["level"]) for row in view.tables["effects"]}
    missing = [
        describe({axis: level})
        for axis in study.compared
        if axis not in study.ranges
        for level in study.axes[axis]
        if level != study.reference(axis) and (axis, show(level)) not in found
    ]
    if missing:
        yield f"Too few arms have results: the effects of {listed(missing)} are not estimated."
