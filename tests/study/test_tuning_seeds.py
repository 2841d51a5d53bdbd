"""Two phases: the tuning seeds choose a setting, which alone is trained at the reported seeds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study.arms import arms
from harness.study.known import known, size
from harness.study.spec import load_study


def tuning_cells(study, source):
    return [cell for cell in known(study, source).cells if cell.phase == "tuning"]


TUNING = ("seeds: [0, 1]", "seeds: [0, 1]\ntuning_seeds: [7, 8]")


@pytest.fixture
def study(write_study):
    return load_study(write_study(TUNING))


def test_an_arm_with_several_settings_is_searched_at_the_tuning_seeds_alone(study):
    tuning = tuning_cells(study, "s")
    # 4 arms with adam have two learning rates, those with muon one
    assert [(arm.tuning_cells, arm.reported_cells) for arm in arms(study)] == [(4, 2), (0, 2)] * 4
    assert len(tuning) == 16
    assert {cell.recipe.seed for cell in tuning} == {7, 8}
    assert {cell.recipe.optimizer for cell in tuning} == {"adam"}
    assert {cell.phase for cell in tuning} == {"tuning"}
    assert size(study) == 16 + 8 * 2


def test_before_anything_has_ended_only_arms_without_a_choice_have_reported_cells(study):
    found = known(study, "s").cells
    assert found[:16] == tuning_cells(study, "s")
    assert [(c.recipe.optimizer, c.phase) for c in found[16:]] == [("muon", "reported")] * 8


def test_an_arm_is_known_when_all_its_tuning_cells_have_ended(study):
    tuning = tuning_cells(study, "s")
    of_first_arm = [cell.id for cell in tuning if cell.arm == tuning[0].arm]
    all_but_one = dict.fromkeys(of_first_arm[:-1], 0.5)
    assert len(known(study, "s", all_but_one.get).cells) == 24
    assert len(known(study, "s", dict.fromkeys(of_first_arm, 0.5).get).cells) == 26


def test_lost_cells_count_against_their_setting_and_an_arm_that_lost_all_takes_its_first(study):
    def score(cell_id):
        (cell,) = [cell for cell in tuning_cells(study, "s") if cell.id == cell_id]
        deep = cell.arm["layers"] == "dense 2-2"
        return math.inf if deep or (cell.tuned["lr"] == 1e-3 and cell.recipe.seed == 8) else 0.1 / cell.tuned["lr"]

    reported = [cell for cell in known(study, "s", score).cells if cell.phase == "reported"]
    assert len(reported) == 16
    assert {(c.arm["layers"], c.recipe.lr) for c in reported if c.recipe.optimizer == "adam"} == {
        ("none", 4e-3),
        ("dense 2-2", 1e-3),
    }


@given(st.lists(st.integers(0, 9), min_size=16, max_size=16))
def test_the_setting_with_the_lowest_mean_is_reported_at_every_seed(study_of, scores):
    study = study_of
    tuning = tuning_cells(study, "s")
    by_id = {cell.id: float(score) for cell, score in zip(tuning, scores, strict=True)}
    found = known(study, "s", by_id.get).cells
    assert len(found) == len({cell.id for cell in found}) == size(study)
    for cell in found[16:]:
        if cell.recipe.optimizer == "adam":
            of_arm = [c for c in tuning if c.arm == cell.arm]
            totals = {lr: sum(by_id[c.id] for c in of_arm if c.tuned["lr"] == lr) for lr in (1e-3, 4e-3)}
            assert cell.recipe.lr == min(totals, key=totals.__getitem__)


@pytest.fixture(scope="module")
def study_of(tmp_path_factory):
    from tests.study.conftest import SOURCE, STUDY

    folder = tmp_path_factory.mktemp("study")
    (folder / "source.yaml").write_text(SOURCE)
    (folder / "study.yaml").write_text(STUDY.lstrip().replace(*TUNING))
    return load_study(folder / "study.yaml")


def test_without_them_every_setting_is_reported_at_every_seed(write_study):
    study = load_study(write_study())
    found = known(study, "s").cells
    assert not tuning_cells(study, "s")
    assert len(found) == size(study) == 12 * 2
    assert {cell.phase for cell in found} == {"reported"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[7, 7]", ":16: tuning_seeds: expected each seed once, got [7, 7]"),
        ("[1, 7]", ":16: tuning_seeds: expected seeds that are not under 'seeds' too, got [1]"),
        ("[]", ":16: tuning_seeds: expected "),
        ("[-1]", ":16: tuning_seeds[0]: expected at least 0, got -1"),
        ("7", ":16: tuning_seeds: expected a list, got 7"),
    ],
)
def test_a_mistake_gets_one_line(write_study, written, expected):
    with pytest.raises(UserError) as error:
        load_study(write_study((TUNING[0], f"{TUNING[0]}\ntuning_seeds: {written}")))
    assert expected in str(error.value)


def test_they_need_something_to_tune(write_study):
    with pytest.raises(UserError, match=r":16: tuning_seeds: expected an axis with 'tune: true'"):
        load_study(write_study(TUNING, ("tune: true", "tune: false")))
