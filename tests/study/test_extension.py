"""Searches that go on beyond their lists: which values follow, and where they end."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study.axes import Axis
from harness.study.extension import ladder
from harness.study.known import known, possible_cells, rounds
from harness.study.spec import load_study
from tests.study.conftest import SOURCE, STUDY

EXTEND = ("tune: true", "tune: {extend: true, limit: 3}")
FITTING = ("  batch: 100", "  batch: 100\n  dead_window: 500")  # no more than the source holds out
TUNING = ("seeds: [0, 1]", "seeds: [0, 1]\ntuning_seeds: [7, 8]")


@pytest.mark.parametrize(
    ("field", "values", "below", "above"),
    [
        ("lr", (8e-3, 1.6e-2, 3.2e-2), [2e-3, 4e-3], [6.4e-2, 0.128]),
        ("lr", (3.2e-2, 8e-3, 1.6e-2), [2e-3, 4e-3], [6.4e-2, 0.128]),  # in any order
        ("lr", (1e-3, 4e-3), [6.25e-5, 2.5e-4], [1.6e-2, 6.4e-2]),
        ("lr", (1.0, 3.0, 10.0), [0.1111, 0.3333], [33.33, 111.1]),  # the ratio at that end; four digits
        ("lr", (0.1, 0.2, 0.3), [], [0.4, 0.5]),  # evenly spaced: by the same step, and 0 is no rate
        ("lr", (1.0001, 1.0002), [0.9999, 1.0], None),
        ("lr", (None, 0.1, 0.2), [0.025, 0.05], [0.4, 0.8]),
        ("lr", (None, 0.1), None, None),
        ("lr", (1e300, 1e305), [1e290, 1e295], []),  # the next one is infinite
        ("penalty", (0.0, 0.1), [], [0.2, 0.3]),  # no ratio to 0, and nothing below it
        ("penalty", (0.0, 0.01, 0.1), [], [1.0, 10.0]),
        ("warmup", (0.25, 0.5), [0.0625, 0.125], [1.0]),  # a share is at most 1
        ("k", (16, 32), [4, 8], [64, 128]),
        ("k", (3, 4), [1, 2], [5, 7]),
        ("k", (1, 2), [], [4, 8]),
    ],
)
def test_the_list_goes_on_as_it_goes_within_the_bounds_of_the_field(field, values, below, above):
    numbers = sorted(value for value in values if value is not None)
    steps = ladder(Axis(field, True, values, extend=2), values)
    if below is None:
        assert steps == []
        return
    assert steps[: len(below)] == below
    assert steps[len(below) : len(below) + len(numbers)] == numbers
    if above is not None:
        assert steps[len(below) + len(numbers) :] == above


def test_without_extend_there_is_nothing_beyond():
    assert ladder(Axis("lr", True, (1e-3, 1e-2)), (1e-3, 1e-2)) == []


@pytest.fixture(scope="module")
def study_with(tmp_path_factory):
    def load(*replacements):
        folder = tmp_path_factory.mktemp("study")
        (folder / "source.yaml").write_text(SOURCE)
        text = STUDY.lstrip()
        for old, new in (EXTEND, FITTING, *replacements):
            assert old in text, old
            text = text.replace(old, new)
        (folder / "study.yaml").write_text(text)
        return load_study(folder / "study.yaml")

    return load


def swept(study, score_of):
    """The rounds of a sweep, and what is known at its end, where `score_of` gives the score of a cell."""
    cells = {cell.id: cell for cell in possible_cells(study, "s")}

    def score(cell):
        return score_of(cells[cell])

    found = [new for new, _ in rounds(lambda so_far: known(study, "s", so_far), score)]
    return found, known(study, "s", score)


def rates(found, layers="none", penalty=0.0, optimizer="adam", phase=None):
    arm = {"layers": layers, "penalty": penalty, "optimizer": optimizer}
    return list(dict.fromkeys(c.recipe.lr for c in found.cells if c.arm == arm and phase in (None, c.phase)))


def best_at(optimum):
    """A score that is lowest at this learning rate, and differs a little between seeds."""
    return lambda cell: abs(math.log(cell.recipe.lr / optimum)) + 0.01 * cell.recipe.seed


def test_a_search_ends_when_the_best_value_is_inside(study_with):
    _, found = swept(study_with(), best_at(0.02))
    assert found.final
    assert rates(found) == [1e-3, 4e-3, 1.6e-2, 6.4e-2]
    assert rates(found, optimizer="muon") == [1e-2]  # one value: no list to go on
    assert {c.recipe.seed for c in found.cells if c.recipe.lr == 6.4e-2} == {0, 1}  # cross-fitted: at every seed
    (extension, *_) = found.extensions
    assert (extension.added, extension.ended) == ((1.6e-2, 6.4e-2), "best inside")


def test_a_search_ends_at_its_limit(study_with):
    _, found = swept(study_with(), best_at(100))
    assert rates(found) == [1e-3, 4e-3, 1.6e-2, 6.4e-2, 0.256]
    assert {extension.ended for extension in found.extensions} == {"limit"}


def test_the_limit_is_of_both_ends_together(study_with):
    """One seed is best at the lowest rate, the other at the highest: each seed is reported where the other is."""

    def score(cell):
        return best_at(1e9 if cell.recipe.seed else 1e-9)(cell)

    _, found = swept(study_with(), score)
    assert len(rates(found)) == 2 + 3


def test_a_value_that_diverges_at_one_seed_is_worse_and_ends_the_search(study_with):
    def score(cell):
        return math.inf if cell.recipe.lr > 1e-2 and cell.recipe.seed == 1 else 1 / cell.recipe.lr

    _, found = swept(study_with(), score)
    assert rates(found) == [1e-3, 4e-3, 1.6e-2]
    assert {extension.ended for extension in found.extensions} == {"best inside"}


def test_where_nothing_can_be_compared_nothing_is_added(study_with):
    _, found = swept(study_with(), lambda cell: math.inf)
    assert rates(found) == [1e-3, 4e-3]
    assert {extension.ended for extension in found.extensions} == {"nothing to compare"}


def test_a_seed_that_is_reported_at_an_end_extends_the_list_too(study_with):
    """Seed 0 is reported at what is best at seed 1, the end of the list, though the other is better on average."""
    best = {0: 1e-3, 1: 4e-3}

    def score(cell):
        return (2 - cell.recipe.seed) * abs(math.log(cell.recipe.lr / best[cell.recipe.seed]))

    _, found = swept(study_with(), score)
    assert set(rates(found)) == {2.5e-4, 1e-3, 4e-3, 1.6e-2}


def test_with_tuning_seeds_values_are_added_at_these_and_the_best_is_reported(study_with):
    study = study_with(TUNING)
    first = known(study, "s")
    assert (first.final, first.to_come) == (False, 8)  # two seeds for each of the four arms that are searched
    _, found = swept(study, best_at(0.02))
    assert rates(found, phase="tuning") == [1e-3, 4e-3, 1.6e-2, 6.4e-2]
    assert rates(found, phase="reported") == [1.6e-2]
    assert {c.recipe.seed for c in found.cells if c.recipe.lr == 6.4e-2} == {7, 8}


def test_a_setting_of_another_arm_is_not_trained_twice(study_with):
    """`lower` is what `none` would come to."""
    axes = "axes:\n  remedy: {settings: {none: {}, lower: {}}}\n  lr:\n    tune: {extend: true}\n"
    lists = "    when: {remedy: {none: [4e-3, 8e-3], lower: [2e-3]}}\n"
    old = STUDY.replace(*EXTEND).replace(*FITTING)
    study = study_with((old[old.index("axes:") : old.index("seeds:")], axes + lists))
    _, found = swept(study, lambda cell: cell.recipe.lr)
    assert len(found.cells) == len({cell.id for cell in found.cells}) == 2 * 3
    assert {(e.arm["remedy"], e.added, e.ended) for e in found.extensions} == {("none", (), "no further value")}


SMALL = ("penalty: [0, 0.1]\n  optimizer: [adam, muon]", "penalty: [0]\n  optimizer: [adam]")
LISTED = (", muon: [1e-2]", "")


@settings(max_examples=25)
@given(
    st.sampled_from([(SMALL, LISTED), (SMALL, LISTED, TUNING)]),
    st.lists(st.floats(-9, 2), min_size=1, max_size=4),
    st.sets(st.integers(0, 200), max_size=12),
    st.floats(0, 3),
)
def test_whatever_the_scores_are_the_search_ends_and_is_found_again(study_with, changes, optima, lost, noise):
    study = study_with(*changes)
    possible = [cell.id for cell in possible_cells(study, "s")]
    losing = {possible[number % len(possible)] for number in lost}

    def score(cell):
        if cell.id in losing:
            return math.inf
        optimum = optima[sum(map(ord, str(cell.arm))) % len(optima)]
        return abs(math.log(cell.recipe.lr) - optimum) + noise * (int(cell.id, 16) % 97) / 97

    found, at_once = swept(study, score)
    assert at_once.final
    trained = [cell.id for new in found for cell in new]
    assert len(trained) == len(set(trained))
    assert set(trained) == {cell.id for cell in at_once.cells} <= set(possible)
    for extension in at_once.extensions:
        assert len(extension.added) <= 3
        assert (extension.ended == "limit") <= (len(extension.added) == 3)


MISTAKES = {
    "an unknown key": ("{extends: true}", ":13: axes.lr.tune.extends: unknown key; did you mean 'extend'"),
    "no truth": ("{extend: 3}", ":13: axes.lr.tune.extend: expected true or false, got 3"),
    "a limit of nothing": ("{extend: true, limit: 0}", ":13: axes.lr.tune.limit: expected at least 1, got 0"),
    "a huge limit": ("{extend: true, limit: 99}", ":13: axes.lr.tune.limit: expected at most 20, got 99"),
    "a limit alone": ("{limit: 3}", ":13: axes.lr.tune.limit: expected 'extend: true' beside it"),
    "a list": ("[1e-3]", ":13: axes.lr.tune: expected true or false, got [0.001]"),
    "two lists": ("{values: [1, 2]}", ":12: axes.lr: expected one of 'values', 'when' and 'settings'"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_gets_one_line(write_study, kind):
    written, expected = MISTAKES[kind]
    with pytest.raises(UserError) as error:
        load_study(write_study(("tune: true", f"tune: {written}")))
    assert expected in str(error.value)


LISTS = "when: {optimizer: {adam: [1e-3, 4e-3], muon: [1e-2]}}"


def test_values_may_stand_under_tune(write_study):
    study = load_study(write_study(("tune: true", "tune: {values: [1e-3, 4e-3], extend: true}"), (LISTS, "")))
    assert (study.axes[-1].values, study.axes[-1].extend) == ((1e-3, 4e-3), 4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (((LISTS, "values: [1e-3]"),), ":13: axes.lr.tune.extend: expected a list of two numbers or more"),
        (((LISTS, "values: [~, 1e-3]"),), "axes.lr.tune.extend: expected a list of two numbers or more"),
        (
            (
                ("penalty: [0, 0.1]", "penalty: {tune: {extend: true}, values: [0, 0.1]}"),
                ("optimizer: {adam", "penalty: {0"),
                ("muon: [", "0.1: ["),
            ),
            "axes.lr.when.penalty: expected an axis whose values are all in this file, 'penalty' is extended",
        ),
    ],
)
def test_what_cannot_be_extended_gets_one_line(write_study, changes, expected):
    with pytest.raises(UserError) as error:
        load_study(write_study(EXTEND, *changes))
    assert expected in str(error.value)
