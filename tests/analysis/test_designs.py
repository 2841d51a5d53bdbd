"""What tables and report say of designs other than a factorial."""

import json
import math
import random
from itertools import product

import pytest

from harness.analysis.sentences.design_limits import design_limits
from harness.analysis.sentences.findings import findings, headline
from harness.analysis.sentences.warnings import warnings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.study.fraction import balanced
from tests.analysis.synthetic_results import cell_record, curve_records, study_record, write

AXES = {"layers": ["none", "sparse 2", "dense 2-2"], "penalty": [0, 0.1], "optimizer": ["adam", "muon"]}
CHANGES = {"sparse 2": -0.2, "dense 2-2": 0.1, 0.1: -0.05, "muon": 0.03}  # of log FVU
DEAD = {"sparse 2": -0.05, "dense 2-2": 0.08, 0.1: -0.1}


def added(levels) -> float:
    return sum(CHANGES.get(level, 0) for level in levels)


def results(folder, design: str, arms, axes=AXES, seeds=3, noise=0.002, truth=added, **changes):
    """Arms whose log FVU is `truth` of their levels."""
    cells = []
    for levels, seed in product(arms, range(seeds)):
        error = random.Random(f"{levels}{seed}").gauss(0, noise)
        fvu = 0.1 * math.exp(truth(levels) + error)
        dead = 0.3 + sum(DEAD.get(level, 0) for level in levels) + error
        cells.append(cell_record(dict(zip(axes, levels, strict=True)), seed, fvu, dead=dead))
    study = study_record("part", axes, list(range(seeds)), cells=len(cells), design=design, **changes)
    curves = [point for cell in cells for point in curve_records(cell, points=4)]
    write(folder, study, cells, curves)
    make_tables(folder)
    return load_view(folder)


def fraction_arms(arms: int):
    every = list(product(*AXES.values()))
    return [every[place] for place in balanced(tuple(every), arms, 0).chosen]


@pytest.mark.parametrize("arms", [6, 7, 9])
def test_main_effects_of_a_fraction_are_right_though_no_pairs_exist(tmp_path, arms):
    view = results(tmp_path / "part", "fraction", fraction_arms(arms), noise=1e-4)
    rows = {(row["axis"], row["level"]): row for row in view.tables["effects"] if row["kind"] == "marginal"}
    assert list(rows) == [
        ("layers", "sparse 2"),
        ("layers", "dense 2-2"),
        ("penalty", "0.1"),
        ("optimizer", "muon"),
    ]
    for (_, level), row in rows.items():
        value = 0.1 if level == "0.1" else level
        assert row["fvu_percent"] == pytest.approx(100 * math.expm1(CHANGES[value]), abs=0.1)
        assert row["fvu_percent_low"] < row["fvu_percent"] < row["fvu_percent_high"]
        assert row["dead_points"] == pytest.approx(100 * DEAD.get(value, 0), abs=0.1)
    sentences = [
        str(getattr(one, "text", getattr(one, "sentence", one)))
        for group in findings(view).values()
        for one in group
    ]
    assert len(sentences) >= 4
    assert all("pairs of arms" not in sentence for sentence in sentences)


def test_a_lost_arm_leaves_what_the_others_can_still_tell(tmp_path):
    arms = fraction_arms(5)  # as many as there are numbers to estimate
    view = results(tmp_path / "part", "fraction", arms[1:])
    estimated = {(row["axis"], row["level"]) for row in view.tables["effects"]}
    assert len(estimated) < 4
    assert any("not estimated" in warning for warning in warnings(view))


FULL = ("dense 2-2", 0.1, "muon")
MINUS = [("none", 0, "muon"), ("dense 2-2", 0, "muon"), ("dense 2-2", 0.1, "adam")]


def test_leave_one_out_reads_as_the_full_recipe_minus_a_component(tmp_path):
    axes = AXES | {"layers": ["none", "dense 2-2"]}
    full = dict(zip(axes, FULL, strict=True))
    view = results(tmp_path / "part", "leave_one_out", [*MINUS, FULL], axes, baseline=full)
    assert [arm["arm"] for arm in view.arms] == [
        "full recipe minus dense 2-2",
        "full recipe minus penalty 0.1",
        "full recipe minus muon",
        "full recipe",
    ]
    assert view.baseline["arm"] == "full recipe"
    pairs = [row for row in view.tables["effects"] if row["kind"] == "pair"]
    assert [(row["axis"], row["level"], row["reference"], row["holding"]) for row in pairs] == [
        ("layers", "none", "dense 2-2", "full recipe, also without penalty 0.1"),
        ("penalty", "0", "0.1", "full recipe"),
        ("optimizer", "adam", "muon", "full recipe"),
    ]
    assert pairs[1]["fvu_percent"] == pytest.approx(100 * math.expm1(0.05), abs=0.5)
    assert "full recipe" in str(headline(view))


def test_the_report_says_what_the_design_was_and_what_it_leaves_open(tmp_path):
    said = "Fraction: 6 of 12 arms; balanced."
    view = results(tmp_path / "part", "fraction", fraction_arms(6), designed=said)
    (limit,) = design_limits(view)
    assert limit.startswith(said)
    assert "as if axes did not interact" in limit
    assert limit in warnings(view)


def test_listed_levels_of_a_sample_are_compared_at_equal_numbers(tmp_path):
    """Arms with layers were drawn at larger penalties, which lower FVU by themselves."""
    penalties = [0.001 * 10 ** (place / 10) for place in range(30)]
    axes = {"layers": ["none", "sparse 2"], "penalty": penalties}
    drawn = random.Random(0)
    arms = [("sparse 2" if drawn.random() < place / 30 else "none", p) for place, p in enumerate(penalties)]
    ranges = {"penalty": {"low": 0.001, "high": 1, "log": True}}

    def truth(levels):
        return -0.2 * (levels[0] != "none") - 0.05 * math.log10(levels[1] / 0.001)

    view = results(
        tmp_path / "part", "sampled", arms, axes, truth=truth, designed="Sampled: 30 arms.", ranges=ranges
    )
    (row,) = view.tables["effects"]
    assert (row["axis"], row["level"], row["kind"], row["pairs"]) == ("layers", "sparse 2", "marginal", 0)
    assert row["fvu_percent"] == pytest.approx(100 * math.expm1(-0.2), abs=0.5)
    plain = math.log(row["fvu_level"] / row["fvu_reference"])
    assert abs(plain + 0.2) > 0.02  # what a comparison of plain means would say
    assert any("parabola along each range" in warning for warning in warnings(view))


def test_results_of_a_factorial_say_nothing_of_it(tmp_path):
    view = results(tmp_path / "part", "factorial", list(product(*AXES.values())))
    assert list(design_limits(view)) == []
    study = json.loads((tmp_path / "part" / "study.json").read_text())
    assert study["design"] == "factorial"
