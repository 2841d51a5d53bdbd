"""Asking judges, the table of their answers, and the scores that it comes to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.interpretability import answers as answers_module
from harness.interpretability.answers import ANSWERS, Asking, ask
from harness.interpretability.examples import ACTIVATING, NEGATIVES, Drawing
from harness.interpretability.judging import Answer, Evidence, Explanation, Question
from harness.interpretability.rule_judge import RuleJudge
from harness.interpretability.scores import latent_scores, scores_of_latents
from harness.interpretability.windows import Windows, windows_of
from harness.study.interpretability import Interpretability
from tests.interpretability.planted import planted

PLANTED = planted(128)
WINDOWS: Windows = windows_of(PLANTED.text, 32, 0)
LATENTS = (0, 8, 12, 20, 28)  # token, bigram, topic, random, dead
SAMPLE = np.array(LATENTS)


class Scripted:
    """Explains by a number, and answers all excerpts alike."""

    identity: Mapping[str, Any] = {"kind": "scripted"}

    def __init__(self, says: bool | None, short: bool = False) -> None:
        self.says, self.short = says, short
        self.explained = itertools.count()
        self.questions: list[Question] = []

    def explain(self, evidence: Sequence[Evidence]) -> list[Explanation]:
        return [Explanation(str(next(self.explained))) for _ in evidence]

    def answer(self, questions: Sequence[Question], repetition: int = 0) -> list[Answer]:
        self.questions += questions
        return [(self.says,) * (len(each.excerpts) - self.short) for each in questions]


def asking(judge: Scripted | RuleJudge, repetitions: int = 1, draws: int = 2) -> Asking:
    drawing = Drawing(WINDOWS, PLANTED.firings, Interpretability(draws=draws))
    drawn = (drawing.draw(latent, draw) for latent in LATENTS for draw in range(draws))
    return ask(judge, drawn, WINDOWS, 0, repetitions)


def test_who_always_says_yes_is_at_chance():
    found = asking(Scripted(True), repetitions=2)
    assert found.answers.schema == ANSWERS
    scores = scores_of_latents(found.answers, SAMPLE)
    alive = np.array([True, True, True, True, False])
    for name in ("detection", "detection_hard", "detection_permuted", "fuzzing"):
        assert scores[name][alive] == pytest.approx(0.5), name
        assert np.isnan(scores[name][~alive]).all()
    assert not scores["token_only"].any()
    assert {*found.answers["repetition"].to_pylist()} == {0, 1}


def test_answers_that_are_not_valid_are_not_right_and_are_counted():
    table = asking(Scripted(None)).answers
    assert table["answer"].null_count == len(table) > 100
    assert not any(table["right"].to_pylist())
    scores = scores_of_latents(table, SAMPLE)
    assert scores["detection"][:4].tolist() == [0, 0, 0, 0]


def test_an_answer_of_another_length_is_a_fault():
    with pytest.raises(ValueError, match=r"expected \d+ answers to a question, got \d+"):
        asking(Scripted(True, short=True))


def test_every_explanation_is_permuted_once_and_never_its_own():
    judge = Scripted(True)
    found = asking(judge)
    detection = [each for each in judge.questions if each.score == "detection"]
    own, other = (
        [question.explanation.text for question in detection[start::2] if question.explanation is not None]
        for start in (0, 1)
    )
    assert own == [explanation.text for explanation in found.explanations.values()]
    draw = dict(zip(own, (key[1] for key in found.explanations), strict=True))
    assert sorted(other) == sorted(own)
    assert all(a != b and draw[a] == draw[b] for a, b in zip(own, other, strict=True))


def test_latents_are_asked_about_in_blocks(monkeypatch: pytest.MonkeyPatch):
    """What is asked of a latent does not depend on the others, but for the permuted explanations."""
    judge = RuleJudge(str, PLANTED.text.ids)
    whole = asking(judge)
    monkeypatch.setattr(answers_module, "AT_ONCE", 3)
    parts = asking(judge)
    assert whole.explanations == parts.explanations
    own = [table.filter(pa.compute.invert(table["permuted"])) for table in (whole.answers, parts.answers)]
    assert own[0].equals(own[1].combine_chunks()) or own[0].to_pylist() == own[1].to_pylist()


def test_a_latent_alone_has_no_other_explanation():
    drawing = Drawing(WINDOWS, PLANTED.firings, Interpretability())
    found = ask(Scripted(True), [drawing.draw(0, 0)], WINDOWS, 0)
    assert not any(found.answers["permuted"].to_pylist())
    assert np.isnan(scores_of_latents(found.answers, np.array([0]))["detection_permuted"]).all()


def test_without_any_latent_to_ask_about_the_table_is_empty():
    drawing = Drawing(WINDOWS, PLANTED.firings, Interpretability())
    found = ask(Scripted(True), [drawing.draw(28, 0)], WINDOWS, 0)
    assert len(found.answers) == len(latent_scores(found.answers)) == 0
    assert np.isnan(scores_of_latents(found.answers, np.array([28]))["detection"]).all()


KINDS = {
    "detection": (ACTIVATING, *NEGATIVES),
    "fuzzing": ("right_tokens", "wrong_tokens"),
    "intruder": ("random",),
}
ROW = st.sampled_from([(score, kind) for score, kinds in KINDS.items() for kind in kinds]).flatmap(
    lambda key: st.fixed_dictionaries(
        {
            "latent": st.sampled_from([3, 5]),
            "draw": st.integers(0, 1),
            "repetition": st.integers(0, 1),
            "score": st.just(key[0]),
            "kind": st.just(key[1]),
            "quantile": st.integers(0, 1) if key[1] == ACTIVATING else st.none(),
            "answer": st.sampled_from([True, False, None]),
            "right": st.booleans(),
            "permuted": st.booleans()
            if key[0] == "detection" and key[1] in KINDS["detection"][:2]
            else st.just(False),
        }
    )
)


def mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def balanced(rows: list[dict[str, Any]], score: str, kinds: tuple[str, str], permuted: bool = False) -> float:
    """The mean over draws and repetitions."""
    found = []
    for draw, repetition in itertools.product(range(2), repeat=2):
        shares = [
            [
                row["right"]
                for row in rows
                if (row["score"], row["kind"], row["permuted"]) == (score, kind, permuted)
                and (row["draw"], row["repetition"]) == (draw, repetition)
            ]
            for kind in kinds
        ]
        found += [sum(sum(share) / len(share) for share in shares) / 2] if all(shares) else []
    return mean(found)


@given(st.lists(ROW, max_size=60))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_loops_over_the_rows(rows: list[dict[str, Any]]):
    table = pa.Table.from_pylist(rows, ANSWERS)
    scores = scores_of_latents(table, np.array([3, 4, 5]))
    for number, latent in enumerate((3, 4, 5)):
        own = [row for row in rows if row["latent"] == latent]
        kinds = {kind: balanced(own, "detection", (ACTIVATING, kind)) for kind in NEGATIVES}
        expected = {
            "detection": kinds["random"],
            "detection_same_token": kinds["same_token"],
            "detection_similar": kinds["similar"],
            "detection_neighbour": kinds["neighbour"],
            "detection_hard": mean([kinds[kind] for kind in NEGATIVES[1:]]),
            "detection_permuted": balanced(own, "detection", (ACTIVATING, "random"), True),
            "fuzzing": balanced(own, "fuzzing", ("right_tokens", "wrong_tokens")),
            "intruder": balanced(own, "intruder", ("random", "random")),
            "token_only": kinds["random"] >= 0.7 and not kinds["same_token"] >= 0.6,
        }
        assert {name: values[number] for name, values in scores.items()} == pytest.approx(expected, nan_ok=True)


@given(st.lists(ROW, max_size=60))
@settings(max_examples=40, deadline=None)
def test_shares_by_quantile_are_those_of_loops_over_the_rows(rows: list[dict[str, Any]]):
    names = ("latent", "score", "kind", "quantile", "draw", "repetition")
    groups: dict[tuple[Any, ...], list[bool]] = {}
    for row in rows:
        if not row["permuted"]:
            groups.setdefault(tuple(row[name] for name in names), []).append(row["right"])
    found = {
        tuple(row[name] for name in names): (row["value"], row["answers"])
        for row in latent_scores(pa.Table.from_pylist(rows, ANSWERS)).to_pylist()
    }
    assert found == {key: (sum(right) / len(right), len(right)) for key, right in groups.items()}
