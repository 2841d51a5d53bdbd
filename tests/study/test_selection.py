"""Cross-fitting: no seed chooses the setting that it is reported at."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.study.tuned_choice import best_setting, choose, comparable

SEEDS = (0, 1, 2)


def test_each_seed_is_reported_where_the_others_are_best():
    scores = {"a": {0: 1.0, 1: 1.0, 2: 9.0}, "b": {0: 2.0, 1: 2.0, 2: 2.0}}
    choice = choose(scores, SEEDS)
    # seeds 0 and 1 see the other's 1 and seed 2's 9 under a (mean 5), so b; seed 2 sees 1 and 1, so a
    assert choice.by_seed == {0: "b", 1: "b", 2: "a"}
    assert choice.shown == "b"  # 2 against 11 / 3
    assert (choice.agreeing, choice.selection) == (2, "cross-fitted")


def test_one_seed_is_chosen_on_itself_and_says_so():
    choice = choose({"a": {0: 2.0}, "b": {0: 1.0}}, [0])
    assert (choice.shown, choice.by_seed, choice.selection) == ("b", {0: "b"}, "in-sample")


def test_the_only_seed_with_results_is_chosen_on_itself_and_says_so():
    choice = choose({"a": {0: 2.0}, "b": {0: 1.0}}, SEEDS)
    assert choice.by_seed == {0: "b", 1: "b", 2: "b"}
    assert choice.selection == "in-sample"


def test_a_single_setting_needs_no_choice():
    assert choose({"a": {0: 2.0}}, [0]).selection == "not tuned"


SLOW, FAST = {0: 0.120, 1: 0.121, 2: 0.1215}, {0: 0.100, 1: 0.101}


def test_a_setting_that_lost_a_seed_is_not_chosen_for_its_survivors():
    diverged = choose({0.008: SLOW, 0.016: FAST | {2: math.inf}}, SEEDS)
    assert (diverged.shown, diverged.by_seed) == (0.008, dict.fromkeys(SEEDS, 0.008))
    missing = choose({0.008: SLOW, 0.016: FAST}, SEEDS)
    assert (missing.shown, missing.by_seed) == (0.008, dict.fromkeys(SEEDS, 0.008))


def test_one_seed_is_no_match_for_three():
    scores = {"all": {0: 0.1, 1: 0.2, 2: 0.3}, "one": {0: 0.12}, "lucky": {0: 0.05}}
    assert choose(scores, SEEDS).by_seed == dict.fromkeys(SEEDS, "all")
    assert choose(scores, (7,), SEEDS).shown == "all"


def test_settings_are_compared_on_the_seeds_that_all_of_them_have():
    # of their own seeds alone, b has the lower mean (0.15 against 0.25); on seed 1, which both have, a is better
    scores = {"a": {0: 0.4, 1: 0.1, 2: math.inf}, "b": {0: math.inf, 1: 0.2, 2: 0.1}}
    assert best_setting(scores, SEEDS) == "a"
    assert comparable(scores, SEEDS) == (["a", "b"], [1])


def test_where_all_lost_some_the_one_that_lost_fewer_wins():
    scores = {"a": {0: 1.0, 1: math.inf, 2: math.inf}, "b": {0: 9.0, 1: 9.0, 2: math.inf}}
    assert best_setting(scores, SEEDS) == "b"


def test_of_equally_many_results_a_missing_seed_is_better_than_a_lost_one():
    assert best_setting({"a": {0: 1.0, 1: math.inf}, "b": {0: 2.0}}, [0, 1]) == "b"


@pytest.mark.parametrize("seeds", [dict.fromkeys(SEEDS, math.inf), {}])
def test_where_every_seed_was_lost_nothing_is_chosen(seeds):
    choice = choose({"a": seeds, "b": seeds}, SEEDS)
    assert (choice.shown, choice.by_seed, choice.selection) == ("a", dict.fromkeys(SEEDS, "a"), "unselected")
    assert choose({"a": seeds, "b": seeds}, (7,), SEEDS).selection == "unselected"
    assert best_setting({"a": seeds, "b": seeds}, SEEDS) is None


def test_settings_without_a_common_seed_cannot_be_compared():
    scores = {"a": {0: 0.2, 1: math.inf}, "b": {0: math.inf, 1: 0.1}}
    assert best_setting(scores, [0, 1]) is None
    assert choose(scores, [0, 1]).selection == "unselected"


SCORE = st.one_of(st.none(), st.just(math.inf), st.integers(0, 9).map(float))


@given(st.lists(st.lists(SCORE, min_size=3, max_size=3), min_size=2, max_size=4))
def test_no_setting_with_fewer_results_than_another_is_ever_chosen(table: list[list[float | None]]):
    scores = {name: {s: v for s, v in enumerate(row) if v is not None} for name, row in enumerate(table)}
    results = {name: sum(map(math.isfinite, row.values())) for name, row in scores.items()}
    for choice in (choose(scores, SEEDS), choose(scores, (7, 8), SEEDS)):
        if choice.selection != "unselected":
            assert {results[name] for name in (choice.shown, *choice.by_seed.values())} == {max(results.values())}


def test_equals_go_to_the_earlier_setting():
    assert best_setting({"a": {0: 1.0}, "b": {0: 1.0}}, [0]) == "a"


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=2, max_size=4))
def test_agrees_with_brute_force(table: list[list[int]]):
    seeds = range(4)
    choice = choose({name: dict(enumerate(map(float, row))) for name, row in enumerate(table)}, seeds)
    for held_out in seeds:
        totals = [sum(row[seed] for seed in seeds if seed != held_out) for row in table]
        assert choice.by_seed[held_out] == totals.index(min(totals))


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=4), st.integers(0, 9))
def test_a_seeds_own_score_never_moves_its_setting(table: list[list[int]], other: int):
    def chosen(rows: list[list[int]]) -> int:
        return choose({name: dict(enumerate(map(float, row))) for name, row in enumerate(rows)}, SEEDS).by_seed[1]

    assert chosen(table) == chosen([[row[0], other, row[2]] for row in table])


def test_separate_seeds_decide_alone_where_there_are_any():
    scores = {"a": {7: 1.0, 0: 9.0}, "b": {7: 2.0, 0: 1.0}}
    choice = choose(scores, (0, 1), tuning_seeds=(7,))
    assert (choice.shown, choice.by_seed, choice.selection) == ("a", {0: "a", 1: "a"}, "on other seeds")
    assert choose({"a": scores["a"]}, (0, 1), tuning_seeds=(7,)).selection == "not tuned"
