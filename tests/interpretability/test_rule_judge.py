"""The built-in judge, in small cases; and that scores rank planted features as they should."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.interpretability.answers import ask
from harness.interpretability.examples import Drawing, Examples
from harness.interpretability.firings import Firings
from harness.interpretability.judging import Evidence, Excerpt, Explanation, Question
from harness.interpretability.rule_judge import RuleJudge
from harness.interpretability.rules import Condition
from harness.interpretability.scores import HARD, scores_of_latents
from harness.interpretability.windows import NO_TOKEN, Windows, windows_of
from harness.study.interpretability import Interpretability
from tests.interpretability.planted import Planted, firings_from, planted

TOKEN_7 = Explanation("token ‘7’", ((Condition("token", (7,)),),))


def excerpt(ids: list[int], *marked: int) -> Excerpt:
    return Excerpt(tuple(ids), tuple(number in marked for number in range(len(ids))))


def judge() -> RuleJudge:
    return RuleJudge(str, np.arange(100))


def test_detection_says_in_which_windows_the_rule_matches():
    excerpts = (excerpt([1, 7, 2]), excerpt([1, 2, 3]), excerpt([7, NO_TOKEN, NO_TOKEN]))
    assert judge().answer([Question("detection", TOKEN_7, excerpts)]) == [(True, False, True)]


def test_fuzzing_says_whether_the_rule_matches_what_is_marked():
    excerpts = (
        excerpt([1, 7, 2, 3], 1),
        excerpt([1, 7, 2, 3], 2),
        excerpt([7, 7, 2, 3], 0, 1),
        excerpt([1, 2, 3, 4], 0),
    )
    assert judge().answer([Question("fuzzing", TOKEN_7, excerpts)]) == [(True, False, True, False)]


def test_where_a_rule_matches_every_token_no_highlight_is_right():
    topic = Explanation("", ((Condition("window", (7,)),),))
    excerpts = (excerpt([1, 7, NO_TOKEN], 1), excerpt([7, 7, 2], 0, 1))
    assert judge().answer([Question("fuzzing", topic, excerpts)]) == [(False, False)]


@pytest.mark.parametrize(
    "excerpts",
    [
        (excerpt([1, 7], 1), excerpt([2, 7], 1), excerpt([3, 8], 1), excerpt([4, 7], 1)),
        (excerpt([1, 6], 0), excerpt([1, 5], 0), excerpt([2, 7], 0), excerpt([1, 8], 0)),
        (excerpt([9, 10], 1), excerpt([11, 9], 1), excerpt([12, 13], 1), excerpt([9, 14], 1)),
        (excerpt([5, 0, 7], 1), excerpt([5, 1, 8], 1), excerpt([6, 2, 9], 1), excerpt([5, 3, 4], 1)),
        (excerpt([1, 7, -1], 1), excerpt([2, 7, -1], 1), excerpt([3, 8, -1], 1), excerpt([4, 7, 2], 1)),
    ],
    ids=["the same token", "at the same place", "somewhere in it", "the token before", "after the end"],
)
def test_the_intruder_shares_least(excerpts: tuple[Excerpt, ...]):
    assert judge().answer([Question("intruder", None, excerpts)]) == [(False, False, True, False)]


def test_what_is_common_everywhere_tells_nothing():
    """Token 0 is in every other place of the text; 7 is rare."""
    common = RuleJudge(str, np.where(np.arange(1000) % 2, 0, np.arange(1000) % 100))
    excerpts = (excerpt([0, 7], 1), excerpt([2, 7], 1), excerpt([0, 8], 1), excerpt([4, 7], 1))
    assert common.answer([Question("intruder", None, excerpts)]) == [(False, False, True, False)]


def test_each_tokens_text_is_asked_for_once():
    asked: list[int] = []
    rules = RuleJudge(lambda token: str(asked.append(token)), np.arange(10))
    ids = np.random.default_rng(0).integers(0, 9, (40, 8))
    rules.explain([Evidence(ids, (ids == 3).astype(np.float32))] * 5)
    assert asked == [3]


class Judged:
    def __init__(self, text: Planted, firings: Firings, draws: int) -> None:
        self.windows: Windows = windows_of(text.text, 32, 0)
        drawing = Drawing(self.windows, firings, Interpretability(draws=draws))
        self.sample = np.arange(len(firings.counts))
        self.drawn = [drawing.draw(int(latent), draw) for latent in self.sample for draw in range(draws)]
        found = ask(RuleJudge(lambda token: f"w{token}", text.text.ids), self.drawn, self.windows, 0)
        self.explanations = {latent: each.text for (latent, draw), each in found.explanations.items() if draw == 0}
        self.scores = scores_of_latents(found.answers, self.sample)


@pytest.fixture(scope="module")
def text() -> Planted:
    return planted(256)


@pytest.fixture(scope="module")
def judged(text: Planted) -> Judged:
    return Judged(text, text.firings, draws=2)


def by_kind(text: Planted, values: NDArray[np.float64]) -> dict[str, float]:
    return {kind: float(np.mean(values[list(latents)])) for kind, latents in text.latents.items()}


def test_what_is_planted_scores_high(text: Planted, judged: Judged):
    detection = by_kind(text, judged.scores["detection"])
    assert detection["token"] > 0.98
    assert detection["bigram"] > 0.95
    assert detection["topic"] > 0.9
    assert 0.8 < detection["token_in_context"] < detection["token"]  # its context is the harder part
    fuzzing = by_kind(text, judged.scores["fuzzing"])
    assert min(fuzzing[kind] for kind in ("token", "leaky_token", "bigram")) > 0.9
    assert fuzzing["topic"] == pytest.approx(0.5, abs=0.1)  # nothing tells which tokens of a document
    intruder = by_kind(text, judged.scores["intruder"])
    assert min(intruder[kind] for kind in ("token", "bigram", "topic", "token_in_context")) > 0.8


def test_explanations_name_what_is_planted(text: Planted, judged: Judged):
    for number in range(4):
        token, bigram, in_context = (
            text.latents[kind][number] for kind in ("token", "bigram", "token_in_context")
        )
        assert judged.explanations[token] == f"token ‘w{text.tokens[token]}’"
        assert judged.explanations[bigram] == f"token ‘w{2 * number + 1}’ after ‘w{2 * number}’"
        assert judged.explanations[in_context].startswith(
            f"token ‘w{text.tokens[in_context]}’ in a window with ‘w1"
        )


def test_a_hard_negative_separates_a_token_in_one_context_from_a_token(text: Planted, judged: Judged):
    """By the rule that is learned, and by the explanation that names the token alone."""
    same_token = by_kind(text, judged.scores["detection_same_token"])
    assert same_token["token_in_context"] > 0.8
    assert same_token["leaky_token"] == pytest.approx(0.5, abs=0.05)
    assert np.isnan(same_token["token"])  # it fires wherever its token stands
    token_only = by_kind(text, judged.scores["token_only"].astype(float))
    assert (token_only["token"], token_only["leaky_token"]) == (1, 1)
    assert not any(token_only[kind] for kind in ("bigram", "topic", "token_in_context", "random", "dead"))

    scores = _by_token_alone(text, judged, text.latents["token_in_context"])
    assert scores["detection"].mean() > 0.65  # every other random window has the token, too
    assert scores["detection_same_token"] == pytest.approx(0.5)


def _by_token_alone(text: Planted, judged: Judged, latents: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    class TokenAlone(RuleJudge):
        def explain(self, evidence: object) -> list[Explanation]:
            return [Explanation("", ((Condition("token", (text.tokens[each.latent],)),),)) for each in shown]

    shown: list[Examples] = [each for each in judged.drawn if each.latent in latents]
    found = ask(TokenAlone(str, text.text.ids), shown, judged.windows, 0)
    return scores_of_latents(found.answers, np.array(latents))


def test_what_is_random_scores_at_chance(text: Planted):
    """80 latents: chance is within 2.6 standard errors of the mean of every score (99 %)."""
    random = np.random.default_rng(5)
    masks = [random.random(len(text.text)) < 1 / 300 for _ in range(80)]
    scores = Judged(text, firings_from(masks, random), draws=1).scores
    for name in (
        "detection",
        *(f"detection_{kind}" for kind in HARD),
        "detection_permuted",
        "fuzzing",
        "intruder",
    ):
        values = scores[name]
        chance = 0.2 if name == "intruder" else 0.5
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - chance) <= 2.6 * error + 1e-9, name
        assert error < 0.03, name


def test_explanations_of_other_latents_score_at_chance(judged: Judged):
    values = judged.scores["detection_permuted"]
    assert np.nanmean(values) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["dead", "dense"])
def test_latents_that_are_silent_in_all_windows_or_in_none_have_no_scores(
    text: Planted, judged: Judged, kind: str
):
    dead = list(text.latents[kind])
    assert all(np.isnan(judged.scores[name][dead]).all() for name in ("detection", "fuzzing", "intruder"))
    assert not judged.scores["token_only"][dead].any()
    assert not {*dead} & {*judged.explanations}
