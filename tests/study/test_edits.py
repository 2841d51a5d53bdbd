"""What `harness plan` says of a study file that was edited since its last run."""

import json

import pytest

import harness.study.edits as study_edits
from harness.study import identity
from harness.study.edits import asked, edits
from harness.study.spec import load_study

TUNED = ("seeds: [0, 1]", "seeds: [0, 1]\ntuning_seeds: [5, 6]")  # 24 settings of 8 arms


def lines(
    write_study, before: list[tuple[str, str]], now: list[tuple[str, str]], source: str | None = "a"
) -> list[str]:
    """What is said of an edit, with the first state read back from a file."""
    first = json.loads(json.dumps(asked(load_study(write_study(*before)), "a")))
    return edits(first, asked(load_study(write_study(*now)), source)).lines()


EDITS = {
    "another level": (
        ("[0, 0.1]", "[0, 0.1, 0.2]"),
        "+ 12 cells (penalty 0.2) · 24 unchanged",
    ),
    "a level less": (
        ("[0, 0.1]", "[0]"),
        "12 cells (penalty 0.1) no longer asked for (their results are kept) · 12 unchanged",
    ),
    "another seed, one less": (
        ("seeds: [0, 1]", "seeds: [0, 2]"),
        "+ 12 cells (seed 2) · 12 cells (seed 1) no longer asked for (their results are kept) · 12 unchanged",
    ),
    "a recipe value": (
        ("k: 4", "k: 8"),
        "+ 24 cells (k 8) · 24 cells (k 4) no longer asked for (their results are kept) · 0 unchanged",
    ),
    "a recipe value that was the default": (
        ("k: 4", "k: 4\n  aux_k: 8"),
        "+ 24 cells (aux_k 8) · 24 cells no longer asked for (their results are kept) · 0 unchanged",
    ),
    "a new axis": (("layers: [none", "aux_k: [null, 8]\n  layers: [none"), "+ 24 cells (aux_k 8) · 24 unchanged"),
    "values of a tuned axis": (
        ("muon: [1e-2]", "muon: [2e-2]"),
        "+ 8 cells (lr 0.02) · 8 cells (lr 0.01) no longer asked for (their results are kept) · 16 unchanged",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_counted_and_named(write_study, edit):
    change, expected = EDITS[edit]
    assert lines(write_study, [], [change]) == [f"study edited since the last run: {expected}"]


def test_nothing_is_said_of_what_changes_no_cell(write_study):
    assert (
        lines(write_study, [], [("What helps?", "What else?"), ("[0, 1]", "[1, 0]"), ("[0, 0.1]", "[0.1, 0]")])
        == []
    )


def test_settings_that_are_searched_anew_are_tuning_cells(write_study):
    """The reported cells stay what they are, at whichever setting."""
    change = ("[1e-3, 4e-3]", "[1e-3, 8e-3]")
    (line,) = lines(write_study, [TUNED], [TUNED, change])
    assert "+ 8 cells (lr 0.008) · 8 cells (lr 0.004) no longer asked for" in line
    assert line.endswith(" · 24 unchanged")  # 8 more tuning cells, and 16 reported ones


def test_what_a_named_setting_stands_for_is_named(write_study):
    axis = ("  penalty: [0, 0.1]\n", "  remedy: {settings: {plain: {}, spread: {penalty: 0.1}}}\n")
    (line,) = lines(write_study, [axis], [axis, ("penalty: 0.1", "penalty: 0.2")])
    assert "+ 12 cells (penalty 0.2) · 12 cells (penalty 0.1) no longer asked for" in line


def test_other_activations_are_told_apart_from_an_edit(write_study):
    both = lines(write_study, [], [("[0, 0.1]", "[0]")], source="b")
    assert both[0] == "since the last run the activations changed: every cell is a new one"
    assert both[1].startswith("study edited since the last run: 12 cells (penalty 0.1) no longer asked for")
    assert lines(write_study, [], [], source=None) == []


def test_only_the_cells_whose_code_changed_are_new_ones(write_study, monkeypatch):
    study = load_study(write_study())
    before = asked(study, "a")
    real = identity.code_of
    monkeypatch.setattr(study_edits, "code_of", lambda r: "other" if r.optimizer == "muon" else real(r))
    assert edits(before, asked(study, "a")).lines() == [
        "since the last run the training code changed: 8 of 24 cells are new ones"
    ]
    both = edits(before, asked(study, "b")).lines()
    assert both == ["since the last run the training code and the activations changed: every cell is a new one"]
    monkeypatch.setattr(study_edits, "code_of", lambda r: "other")
    (line,) = edits(before, asked(study, "a")).lines()
    assert line.endswith("training code changed: every cell is a new one")


def test_a_setting_that_does_nothing_changes_no_cell(write_study):
    assert lines(write_study, [], [("k: 4", "k: 4\n  aux_weight: 0.5\n  k_decay: 0.1")]) == []
