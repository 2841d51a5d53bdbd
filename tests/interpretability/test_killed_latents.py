"""Half of the latents killed by hand: scores that count dead latents say so, the others do not move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.interpretability import measure
from harness.interpretability.cell import CellLatents
from harness.interpretability.firings import Firings
from harness.interpretability.rule_judge import RuleJudge
from harness.interpretability.windows import windows_of
from harness.study.interpretability import Interpretability
from tests.interpretability.planted import EACH, KINDS, planted

ASKED = Interpretability(latents=len(KINDS) * EACH, draws=1)


def without(firings: Firings, killed: np.ndarray) -> Firings:
    """The same latents, of which these never fire."""
    left = ~np.isin(firings.latents, killed)
    entries = (firings.tokens[left], firings.latents[left], firings.values[left])
    return Firings(*entries, firings.total, firings.layers)


def test_killed_latents_count_and_leave_the_alive_score_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for component in ("directions", "logit_effects"):  # there is no SAE behind planted latents
        monkeypatch.setattr(measure, component, lambda cell: {})
    of = planted()
    judge = RuleJudge(str, of.text.ids)
    sae: Any = None
    alive = len(KINDS) * EACH - len(of.latents["dead"]) - len(of.latents["dense"])  # as far as they are scored
    cell = CellLatents.of(sae, of.text, windows_of(of.text, 32, 0), ASKED, "cpu", of.firings)
    before = measure.interpret(tmp_path / "all", {}, cell, judge)
    half = replace(cell, firings=without(of.firings, cell.sample[::2]))  # two of the four of each kind
    after = measure.interpret(tmp_path / "half", {}, half, judge)
    assert before["latents_dead"] == len(of.latents["dead"]) / len(cell.sample)
    assert after["latents_dead"] == 0.5 + before["latents_dead"] / 2
    assert before["detection_alive"] > 0.7
    for score in ("detection_alive", "detection_hard_alive", "fuzzing_alive", "intruder_alive"):
        assert after[score] == pytest.approx(before[score], abs=0.06), score
    assert after["detection_failed"] == pytest.approx(before["detection_failed"] / 2, rel=0.06)
    assert after["detection_failed"] == pytest.approx(after["detection_alive"] * alive / 2 / len(cell.sample))
    assert after["detection"] - 0.5 == pytest.approx((before["detection"] - 0.5) / 2, rel=0.15)
