"""What a figure's note says of the outcomes in it."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.outcomes import Outcome, definitions


def definitions_note(outcomes: Iterable[Outcome]) -> str:
    """The definitions of the outcomes that have one; each on a line of its own."""
    return "".join(f"\n{label}: {definition}" for label, definition in definitions(outcomes))
