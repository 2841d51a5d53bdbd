"""What judges are asked: which windows, which marks, and what is right."""

from __future__ import annotations

import numpy as np
import pytest

from harness.interpretability.examples import ACTIVATING, Drawing, Examples
from harness.interpretability.judging import Explanation
from harness.interpretability.questions import BESIDE_INTRUDER, Asked, questions_of
from harness.interpretability.windows import NO_TOKEN, Windows, windows_of
from harness.study.interpretability import Interpretability
from tests.interpretability.planted import Planted, planted

OWN, OTHER = Explanation("its own"), Explanation("another's")


class Setting:
    def __init__(self) -> None:
        self.planted: Planted = planted(128)
        self.windows: Windows = windows_of(self.planted.text, 32, 0)
        self.drawing = Drawing(self.windows, self.planted.firings, Interpretability())
        self.number = {tuple(ids): number for number, ids in enumerate(self.windows.ids.tolist())}

    def asked(self, latent: int) -> tuple[Examples, list[Asked]]:
        examples = self.drawing.draw(latent, 0)
        return examples, questions_of(examples, self.windows, OWN, 0, OTHER)

    def firing(self, latent: int, ids: tuple[int, ...]) -> np.ndarray:
        """On which tokens of a window the latent fires."""
        tokens, values = self.planted.firings.of(latent)
        return self.windows.activations(tokens, values, np.array([self.number[ids]]))[0] > 0


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


def of(asked: list[Asked], score: str, permuted: bool = False) -> list[Asked]:
    return [each for each in asked if each.question.score == score and each.permuted == permuted]


KINDS = ["token", "bigram", "topic", "token_in_context", "random"]


@pytest.mark.parametrize("kind", KINDS)
def test_detection_asks_about_each_window_once(setting: Setting, kind: str):
    latent = setting.planted.latents[kind][0]
    examples, asked = setting.asked(latent)
    [each] = of(asked, "detection")
    assert each.question.explanation == OWN
    assert len(set(each.question.excerpts)) == len(each.question.excerpts)
    assert len(each.kinds) == (~examples.to_explain).sum()
    for row, place in enumerate(each.excerpts):
        excerpt = each.question.excerpts[place]
        fires = setting.firing(latent, excerpt.ids).any()
        assert not any(excerpt.marked)
        assert fires == each.expected[row] == (each.kinds[row] == ACTIVATING) == (each.quantiles[row] >= 0)
        assert not setting.windows.to_explain[setting.number[excerpt.ids]]


def test_another_latents_explanation_is_asked_about_with_random_negatives(setting: Setting):
    _, asked = setting.asked(0)
    [each] = of(asked, "detection", permuted=True)
    assert each.question.explanation == OTHER
    assert {*each.kinds} == {ACTIVATING, "random"}
    examples = setting.drawing.draw(0, 0)
    assert not any(each.permuted for each in questions_of(examples, setting.windows, OWN, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_fuzzing_marks_tokens_that_the_latent_fires_on_or_as_many_others(setting: Setting, kind: str):
    latent = setting.planted.latents[kind][0]
    _, asked = setting.asked(latent)
    [each] = of(asked, "fuzzing")
    assert {*each.kinds} == {"right_tokens", "wrong_tokens"}
    assert abs(each.expected.sum() * 2 - len(each.expected)) <= 1
    for row, place in enumerate(each.excerpts):
        excerpt = each.question.excerpts[place]
        marked, fires = np.array(excerpt.marked), setting.firing(latent, excerpt.ids)
        assert marked.sum() == min(fires.sum(), 16)
        assert each.expected[row] == (each.kinds[row] == "right_tokens")
        assert (fires[marked] == each.expected[row]).all()


def test_wrong_marks_are_shaped_like_right_ones(setting: Setting):
    """A bigram's latent fires on single tokens; one that fires on pairs has its wrong marks in pairs, too."""
    ids = np.arange(4 * 16).reshape(4, 16)
    windows = _windows(ids)
    activations = np.zeros((4, 16), np.float32)
    activations[:, 5:7] = 1
    [each] = of(_questions(windows, activations), "fuzzing")
    for excerpt in each.question.excerpts:
        first, second = np.flatnonzero(excerpt.marked)
        assert second - first in (1, 15)


def test_the_number_of_marks_does_not_tell_which_are_right():
    """Of latents that fire on most tokens, up to all of them, also where the context ends within a window."""
    ids = np.arange(24 * 16).reshape(24, 16)
    rows = np.arange(24 * 16).reshape(24, 16)
    ids[2::3, 12:] = rows[2::3, 12:] = NO_TOKEN
    activations = np.zeros((24, 16), np.float32)
    for window, fires in enumerate(range(1, 13)):
        activations[[window, 12 + window], :fires] = 1
    [each] = of(_questions(_windows(ids, rows), activations.copy()), "fuzzing")
    for place in each.excerpts:
        excerpt = each.question.excerpts[place]
        window = excerpt.ids[1] // 16
        fires = int((activations[window] > 0).sum())
        assert sum(excerpt.marked) == min(fires, 8, int((rows[window] >= 0).sum()) - fires)
    assert len(each.excerpts) == 22  # two end where the latent fires last


def test_nothing_is_marked_that_has_no_activation(setting: Setting):
    """Special tokens, and places after the end of the context; a window with no other token is left out."""
    ids = np.arange(8 * 16).reshape(8, 16)
    ids[:, 12:] = NO_TOKEN
    rows = np.arange(8 * 16).reshape(8, 16)
    rows[:, 0] = rows[:, 12:] = -1
    activations = np.zeros((8, 16), np.float32)
    activations[:, 1:6] = 1
    activations[1, 1:12] = 1  # on all it can fire on
    windows = _windows(ids, rows)
    asked = _questions(windows, activations, negatives=2)
    excerpts = [excerpt for each in asked for excerpt in each.question.excerpts]
    marked = {
        token for excerpt in excerpts for token, mark in zip(excerpt.ids, excerpt.marked, strict=True) if mark
    }
    assert NO_TOKEN not in marked
    assert not marked & {*ids[:, 0].tolist()}
    for each in of(asked, "fuzzing"):
        for row, place in enumerate(each.excerpts):
            excerpt = each.question.excerpts[place]
            if tuple(ids[1]) == excerpt.ids:
                assert each.expected[row]


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_five_is_the_intruder(setting: Setting, kind: str):
    latent = setting.planted.latents[kind][0]
    examples, asked = setting.asked(latent)
    picks = of(asked, "intruder")
    active = examples.only(ACTIVATING, to_explain=False)
    assert len(picks) == len(active) // BESIDE_INTRUDER
    shown = []
    for each in picks:
        [place], [expected] = each.excerpts, each.expected
        fires = [setting.firing(latent, excerpt.ids).any() for excerpt in each.question.excerpts]
        assert each.question.explanation is None
        assert expected
        assert each.kinds.tolist() == ["random"]
        assert [not fire for fire in fires] == [number == place for number in range(BESIDE_INTRUDER + 1)]
        assert all(any(excerpt.marked) for excerpt in each.question.excerpts)
        shown += [excerpt for number, excerpt in enumerate(each.question.excerpts) if number != place]
        quantiles = {int(active.quantiles[active.windows == setting.number[e.ids]][0]) for e in shown[-4:]}
        assert each.quantiles[0] == (quantiles.pop() if len(quantiles) == 1 else -1)
    assert len(set(shown)) == len(shown)


def test_the_intruder_stands_anywhere(setting: Setting):
    places = {int(each.excerpts[0]) for latent in range(20) for each in of(setting.asked(latent)[1], "intruder")}
    assert places == set(range(5))


def test_the_same_draw_makes_the_same_questions(setting: Setting):
    first, second = (setting.asked(12)[1] for _ in range(2))
    assert [each.question for each in first] == [each.question for each in second]


def _windows(ids: np.ndarray, rows: np.ndarray | None = None) -> Windows:
    n = len(ids)
    rows = np.arange(ids.size).reshape(ids.shape) if rows is None else rows
    zeros = np.zeros(n, np.int64)
    return Windows(ids, rows, np.arange(n), zeros, np.zeros(n, bool), np.zeros((n, 2), np.float32), ids.size)


def _questions(windows: Windows, activations: np.ndarray, negatives: int = 0) -> list[Asked]:
    n = len(windows)
    activations[n - negatives :] = 0
    kinds = np.array([ACTIVATING] * (n - negatives) + ["random"] * negatives)
    quantiles = np.where(kinds == ACTIVATING, 0, -1)
    examples = Examples(0, 0, np.arange(n), kinds, quantiles, np.zeros(n, bool), activations)
    return questions_of(examples, windows, OWN, 0)
