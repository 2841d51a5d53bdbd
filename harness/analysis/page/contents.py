"""What the report has to say, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.page.figures import PageFigure
from harness.analysis.page.sections import ShownSection
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.sentence import Sentence

LATENTS = "features.html"  # beside the report, where the study asks for interpretability


@dataclass(frozen=True)
class Contents:
    """`date`: of the results, if known. `uncertain`: how certain the answer is.

    `definitions`: of metrics, by label. `provenance`: entries by heading.
    """

    study: StudyRecord
    facts: str
    date: str
    answer: Sequence[Sentence]
    uncertain: Sequence[Sentence]
    warnings: Sequence[str]
    first_figures: Sequence[PageFigure]
    other_figures: Sequence[PageFigure]
    sections: Sequence[ShownSection]
    definitions: Sequence[tuple[str, str]]
    provenance: dict[str, dict[str, Any]]
