"""The key `pruning` of a study file."""

import pytest

from harness.errors import UserError
from harness.study.spec import load_study


@pytest.mark.parametrize(
    "rule", ["none", "divergence", "{median: {}}", "{median: }", "{percentile: {percentile: 25}}"]
)
def test_rules_are_read(write_study, rule):
    study = load_study(write_study(("seeds:", f"pruning: {rule}\nseeds:")))
    assert (study.pruned_by is None) == (rule in ("none", "divergence"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("hyperband", "pruning: expected none, divergence or one of median, percentile"),
        ("{median: {}, threshold: {fvu: 1}}", "pruning: expected none, divergence or one of"),
        ("{median: {warmup: 1}}", "pruning.median.warmup: expected less than 1"),
        ("{threshold: {}}", "pruning.threshold.fvu: this key is missing"),
        ("{threshold: {fvu: .nan}}", "pruning.threshold.fvu: expected a finite number"),
        ("{median: {kind: median}}", "pruning.median.kind: unknown key"),
        ("[median]", "pruning: expected"),
    ],
)
def test_other_rules_get_one_line(write_study, rule, expected):
    with pytest.raises(UserError) as error:
        load_study(write_study(("seeds:", f"pruning: {rule}\nseeds:")))
    assert expected in str(error.value)
