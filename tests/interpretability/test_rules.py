"""Rules: what they match, how they read, and whether they are learned where the truth is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.interpretability.rule_learning import learn
from harness.interpretability.rules import OFFSETS, PLACES, Condition, Rule, describe, matches
from harness.interpretability.windows import NO_TOKEN

LENGTH = 6
CONDITIONS = st.builds(
    Condition, st.sampled_from(PLACES), st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple)
)
RULES = st.lists(st.lists(CONDITIONS, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple)
WINDOWS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=LENGTH).map(
        lambda ids: ids + [NO_TOKEN] * (LENGTH - len(ids))
    ),
    min_size=1,
    max_size=4,
)


def holds(condition: Condition, window: list[int], position: int) -> bool:
    place, values = condition
    if place == "position":
        return position in values
    if place == "window":
        return any(token in values for token in window)
    at = position + OFFSETS[place]
    return 0 <= at < len(window) and window[at] in values


@given(RULES, WINDOWS)
@settings(max_examples=200, deadline=None)
def test_a_rule_matches_where_all_conditions_of_a_conjunction_hold(rule: Rule, windows: list[list[int]]):
    expected = [
        [
            token != NO_TOKEN
            and any(all(holds(condition, window, position) for condition in each) for each in rule)
            for position, token in enumerate(window)
        ]
        for window in windows
    ]
    assert matches(rule, np.array(windows)).tolist() == expected


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ((), "no rule found"),
        (((Condition("token", (1,)),),), "token ‘b’"),
        (((Condition("token", (0, 1, 2)),),), "token ‘ a’, ‘b’ or ‘\\n’"),
        (((Condition("1 before", (2,)), Condition("token", (1,))),), "token ‘b’ after ‘\\n’"),
        (
            ((Condition("window", (0,)),), (Condition("1 after", (1,)), Condition("3 before", (2,)))),
            "any token in a window with ‘ a’; or any token 3 tokens after ‘\\n’ before ‘b’",
        ),
        (((Condition("position", (0, 4)),),), "any token at position 1 or 5 of the window"),
    ],
)
def test_a_rule_in_words(rule: Rule, text: str):
    assert describe(rule, [" a", "b", "\n"].__getitem__) == text


HALF = np.random.default_rng(1).random((1200, 16)) < 0.5
Fires = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


def shifted(ids: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    """The token at an offset, -9 beyond the window."""
    padded = np.pad(ids, ((0, 0), (4, 4)), constant_values=-9)
    return padded[:, 4 + offset : 4 + offset + ids.shape[1]]


@pytest.mark.parametrize(
    ("fires", "rule"),
    [
        (lambda ids: ids == 7, {(("token", 7),)}),
        (lambda ids: (ids == 7) & (shifted(ids, -1) == 3), {(("1 before", 3), ("token", 7))}),
        (lambda ids: shifted(ids, -3) == 5, {(("3 before", 5),)}),
        (lambda ids: shifted(ids, 1) == 5, {(("1 after", 5),)}),
        (lambda ids: (ids == 7) & (np.arange(16) == 0), {(("position", 0), ("token", 7))}),
        (lambda ids: HALF & (ids == 9).any(1, keepdims=True), {(("window", 9),)}),
        (lambda ids: (ids == 7) & (ids == 9).any(1, keepdims=True), {(("token", 7), ("window", 9))}),
        (
            lambda ids: (ids == 4) | ((ids == 7) & (shifted(ids, -1) == 3)),
            {(("token", 4),), (("1 before", 3), ("token", 7))},
        ),
    ],
    ids=[
        "token",
        "bigram",
        "three before",
        "next token",
        "position",
        "topic",
        "token in context",
        "two conjunctions",
    ],
)
def test_a_rule_is_learned_where_the_truth_is_one(fires: Fires, rule: set[tuple[tuple[str, int], ...]] | None):
    """On 600 windows of 16 tokens out of 40; judged on 600 others."""
    ids = np.random.default_rng(0).integers(0, 40, (1200, 16))
    ids[::5, 5], ids[::10, 4], ids[::7, 0] = 7, 3, 7  # what is rare otherwise
    truth = fires(ids)
    learned = learn(ids[:600], truth[:600].astype(np.float32))
    found, real = matches(learned, ids[600:]), truth[600:]
    assert (found.any(1) == real.any(1)).mean() > 0.9, learned
    assert found[real].mean() > 0.8, learned
    if rule is not None:
        assert {tuple(sorted((c.place, c.values[0]) for c in each)) for each in learned} == rule
        assert all(len(condition.values) == 1 for each in learned for condition in each)


def test_nothing_is_learned_where_there_is_nothing_to_learn():
    ids = np.random.default_rng(0).integers(0, 40, (100, 16))
    assert learn(ids, np.zeros(ids.shape, np.float32)) == ()
    assert learn(ids[:1], np.ones((1, 16), np.float32)) == ()  # one window is no pattern


def test_the_places_after_the_end_of_a_context_count_for_nothing():
    ids = np.random.default_rng(0).integers(0, 40, (200, 16))
    ids[::2, 8:] = NO_TOKEN
    learned = learn(ids, (ids == 7).astype(np.float32))
    assert learned == ((Condition("token", (7,)),),)
    assert not matches(((Condition("position", (10,)),),), ids)[::2].any()
