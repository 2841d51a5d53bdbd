"""Planned looks: after some seeds of all arms, only those that are undecided go on."""

import pytest

from harness.errors import UserError
from harness.study.arms import arms
from harness.study.known import known, rounds, size
from harness.study.spec import load_study

LOOKS = ("seeds: [0, 1]", "seeds: {looks: [2, 3, 5], first: 10}")
TUNING = ("seeds: [0, 1]", "seeds: {looks: [2, 3, 5]}\ntuning_seeds: [7]")


def swept(study, go_on, score=lambda cell: 0.5):
    return list(rounds(lambda so_far: known(study, "s", so_far, go_on), score))


def deep(_, going):
    """The arms with added layers."""
    return {arm for arm in going if arm[0] == "dense 2-2"}


def seeds(found, layers):
    return sorted({cell.recipe.seed for cell in found.cells if cell.arm["layers"] == layers})


def test_the_seeds_follow_the_first_one(write_study):
    study = load_study(write_study(LOOKS))
    assert study.seeds == (10, 11, 12, 13, 14)
    assert study.looks == [(10, 11), (10, 11, 12), (10, 11, 12, 13, 14)]
    assert load_study(write_study()).looks == [(0, 1)]


def test_only_arms_that_are_undecided_get_more_seeds(write_study):
    study = load_study(write_study(LOOKS))
    assert size(study) == 12 * 2
    found = swept(study, deep)
    assert [len(new) for new, _ in found] == [12 * 2, 6 * 1, 6 * 2]
    assert seeds(found[-1][1], "none") == [10, 11]
    assert seeds(found[-1][1], "dense 2-2") == [10, 11, 12, 13, 14]


def test_the_study_ends_at_the_look_that_decides_everything(write_study):
    found = swept(
        load_study(write_study(LOOKS)),
        lambda found, going: deep(found, going) if len(found.cells) == 24 else set(),
    )
    assert [len(new) for new, _ in found] == [24, 6]
    assert known(load_study(write_study(LOOKS)), "s", lambda cell: 0.5, lambda *_: set()).final


def test_a_look_sees_its_own_seeds_alone_though_others_are_there(write_study):
    study = load_study(write_study(LOOKS))
    seen = []

    def go_on(found, going):
        seen.append(found.seeds)
        return going

    known(study, "s", lambda cell: 0.5, go_on)
    assert seen == [[10, 11], [10, 11, 12]]


def test_there_is_no_look_before_all_its_cells_have_ended(write_study):
    study = load_study(write_study(LOOKS))
    (first, *_) = known(study, "s").cells
    found = known(study, "s", lambda cell: None if cell == first.id else 0.5, lambda *_: pytest.fail("looked"))
    assert (len(found.cells), found.final) == (24, False)


def test_what_was_chosen_at_tuning_seeds_is_reported_at_each_look(write_study):
    study = load_study(write_study(TUNING))
    found = swept(study, deep)
    searched, single = 4 * 2, 4 * 2  # four arms with two settings at one seed; four with one at two seeds
    assert [len(new) for new, _ in found] == [searched + single, 4 * 2, 4 * 1, 4 * 2]
    tuning = {c.recipe.seed for c in found[-1][1].cells if c.phase == "tuning"}
    assert tuning == {7}
    assert [(arm.reported_cells, arm.most_reported_cells) for arm in arms(study)] == [(2, 5)] * 8


def test_a_search_goes_on_from_the_settings_of_the_look_before(write_study):
    fitting = ("batch: 100", "batch: 100\n  dead_window: 500")
    study = load_study(write_study(LOOKS, fitting, ("tune: true", "tune: {extend: true, limit: 1}")))
    cells = {}

    def score(cell):
        """At the first two seeds the highest rate is best, after that the lowest."""
        recipe = cells[cell].recipe
        return 1 / recipe.lr if recipe.seed < 12 else 1e6 * recipe.lr

    def known_so_far(so_far):
        found = known(study, "s", so_far)
        cells.update({cell.id: cell for cell in found.cells})
        return found

    *_, (_, found) = list(rounds(known_so_far, score))
    adam = [cell for cell in found.cells if cell.arm["optimizer"] == "adam" and cell.arm["layers"] == "none"]
    assert {cell.recipe.lr for cell in adam} == {1e-3, 4e-3, 1.6e-2}
    assert all(
        sum(cell.recipe.lr == lr for cell in adam) == 2 * 5 for lr in (1e-3, 4e-3, 1.6e-2)
    )  # two penalties, all seeds


MISTAKES = {
    "one look": ("{looks: [3]}", ":15: seeds.looks: expected at least 2 of them"),
    "no look": ("{first: 3}", ":15: seeds.looks: this key is missing"),
    "falling": ("{looks: [5, 3]}", ":15: seeds.looks: expected more seeds at each look than before, got [5, 3]"),
    "equal": ("{looks: [3, 3]}", ":15: seeds.looks: expected more seeds at each look"),
    "one seed": ("{looks: [1, 3]}", ":15: seeds.looks[0]: expected at least 2, got 1"),
    "many": ("{looks: [3, 5000]}", ":15: seeds.looks[1]: expected at most 1000, got 5000"),
    "words": ("{looks: often}", ":15: seeds.looks: expected a list, got 'often'"),
    "an unknown key": ("{look: [3, 5]}", ":15: seeds.look: unknown key; did you mean 'looks'"),
    "a negative seed": ("{looks: [3, 5], first: -1}", ":15: seeds.first: expected at least 0, got -1"),
    "nothing": ("", ":15: seeds: expected a list"),
    "tuning seeds among them": (
        "{looks: [3, 8]}\ntuning_seeds: [7]",
        ":16: tuning_seeds: expected seeds that are not",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_gets_one_line(write_study, kind):
    written, expected = MISTAKES[kind]
    with pytest.raises(UserError) as error:
        load_study(write_study((LOOKS[0], f"seeds: {written}")))
    assert expected in str(error.value)
