"""The table of metrics: its rows are whole, and no name means two things."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from harness.analysis.results.files import TABLES, read_table
from harness.analysis.tables import make_tables
from harness.metrics import METRICS, Metric, curve_columns, metrics_at
from harness.records.trial import attributes
from harness.study.recipe import RECIPE_FIELDS
from tests.analysis.synthetic_results import write_depth

ENDS = ("", "_low", "_high")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: f"{metric.name}-{metric.places[0]}")
def test_a_row_is_whole(metric: Metric):
    module, function = metric.measured_by.split(":")
    assert callable(attrgetter(function)(import_module(module)))
    assert metric.name.isidentifier()
    assert metric.label
    assert metric.axis
    assert metric.definition
    assert not metric.definition.endswith(".")
    assert metric.better or metric.change is None  # else a change could not be said to be better or worse
    low, high = metric.bounds
    assert low is None or high is None or low < high


def test_the_row_in_the_documentation_is_one():
    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    (example,) = re.findall(r"```python\n(Metric\(.*?)```", page, re.DOTALL)
    assert eval(example, {"Metric": Metric}).effect == "probe_accuracy_points"


def test_a_metric_is_measured_at_a_place_by_one_row():
    assert max(Counter((metric.name, place) for metric in METRICS for place in metric.places).values()) == 1


def test_no_column_of_a_table_has_the_name_of_another(tmp_path: Path):
    results = write_depth(tmp_path / "depth")
    make_tables(results)
    found = {table: set(read_table(results, table).columns) for table in TABLES}
    ours = {
        "arms": [f"{metric.name}{end}" for metric in metrics_at("final") for end in ENDS],
        "cells": [metric.name for metric in metrics_at("final")],
        "layers": [f"{metric.name}{end}" for metric in metrics_at("layer") for end in ENDS],
        "curves": [f"{column}{end}" for column in curve_columns() for end in ENDS],
    }
    fixed = {table: found[table] - set(columns) for table, columns in ours.items()}
    assert {"arm", "n", "selection", "parameters", "diverged"} <= fixed["arms"]
    assert {"cell", "seed", "state", "not_finite"} <= fixed["cells"]
    for table, columns in ours.items():
        assert len(columns) == len(set(columns)), table
        assert not any(column.startswith("axis_") for column in columns)
    effects = [name for m in metrics_at("final") if m.change for name in (m.effect, m.verdict)]
    assert len(effects) == len(set(effects))


def test_no_attribute_of_a_trial_is_also_a_field_of_the_recipe():
    heldout = {metric.name: 0.5 for metric in metrics_at("final")}
    told = attributes({"state": "complete", "heldout": heldout})
    assert told.keys() - {"state"} == heldout.keys() - {"fvu"}  # that is the trial's value
    assert not told.keys() & {*RECIPE_FIELDS, "cell", "arm", "seed", "phase", "reason", "retries", "reported"}
