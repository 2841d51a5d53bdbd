"""Figures of a cell from its tables, against sums by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from harness.evaluation.measurements import LAYERS
from harness.interpretability.figures import figures_of
from harness.metrics import OF_LATENTS

SCORES = ("detection", "fuzzing", "intruder")
KINDS = ("same_token", "similar", "neighbour", "hard")


def latents(count: int = 4, **columns: list[object]) -> pa.Table:
    """Latents that all score 0.9 and fire on 1 % of the tokens, but for `columns`."""
    scores = {name: [0.9] * count for name in SCORES} | {f"detection_{kind}": [0.7] * count for kind in KINDS}
    flags = {name: [False] * count for name in ("dead", "dense", "unscored", "token_only")}
    known = {"latent": list(range(count)), "layer": [0] * count, "firing_rate": [0.01] * count}
    return pa.table(known | scores | flags | columns)


def answers(*rows: tuple[int, int | None, bool | None]) -> pa.Table:
    """Answers about activating windows: latent, quantile, answer."""
    names = ("latent", "quantile", "answer")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    fixed = {"score": ["detection"], "kind": ["activating"], "permuted": [False]}
    right = [answer is True for answer in columns["answer"]]
    answer = pa.array(columns["answer"], pa.bool_())
    return pa.table({**columns, "answer": answer, "right": right, **{n: v * len(rows) for n, v in fixed.items()}})


def without(table: pa.Table, dead: set[int]) -> pa.Table:
    """The same table after these latents were killed: nothing is known of them but that."""
    rows = table.to_pylist()
    lost = dict.fromkeys((*SCORES, *(f"detection_{kind}" for kind in KINDS)))
    rows = [row | lost | {"dead": True, "firing_rate": 0.0} if row["latent"] in dead else row for row in rows]
    return pa.Table.from_pylist(rows, table.schema)


def test_dead_latents_halve_what_is_above_chance_and_leave_the_alive_score_alone():
    table = latents(100)
    before = figures_of(table, answers())
    after = figures_of(without(table, set(range(0, 100, 2))), answers())
    assert after["detection_failed"] == pytest.approx(before["detection_failed"] / 2)
    assert after["detection"] - 0.5 == pytest.approx((before["detection"] - 0.5) / 2)
    assert after["intruder"] - 0.2 == pytest.approx((before["intruder"] - 0.2) / 2)
    for name in (
        "detection_alive",
        "fuzzing_alive",
        "intruder_alive",
        "detection_hard_alive",
        "detection_weighted",
    ):
        assert after[name] == pytest.approx(before[name])
    assert (before["latents_dead"], after["latents_dead"]) == (0, 0.5)


def test_all_latents_dead():
    found = figures_of(without(latents(), set(range(4))), answers())
    assert found["detection"] == found["detection_hard"] == found["fuzzing"] == 0.5
    assert found["detection_failed"] == 0
    assert not {"detection_alive", "detection_weighted", "detection_strong", "invalid_answers"} & found.keys()


def test_a_latent_without_negatives_of_a_kind_says_nothing_of_that_kind():
    found = figures_of(latents(detection_same_token=[None, 0.6, 0.8, 0.7]), answers())
    assert found["detection_same_token"] == pytest.approx(0.7)


def test_weighted_by_firing_rate():
    rates, scores = [0.3, 0.1, 0.0, 0.1], [1.0, 0.5, None, 0.6]
    found = figures_of(latents(firing_rate=rates, detection=scores, dead=[False, False, True, False]), answers())
    assert found["detection_weighted"] == pytest.approx((0.3 * 1 + 0.1 * 0.5 + 0.1 * 0.6) / 0.5)
    assert found["detection"] == pytest.approx((1 + 0.5 + 0.5 + 0.6) / 4)


def test_recall_by_strength_is_a_mean_over_latents_and_invalid_answers_count_as_wrong():
    asked = answers((0, 0, False), (0, 0, True), (0, 4, True), (1, 0, True), (1, 4, None), (1, 4, True))
    found = figures_of(latents(), asked)
    assert found["detection_weak"] == pytest.approx((0.5 + 1) / 2)
    assert found["detection_strong"] == pytest.approx((1 + 0.5) / 2)
    assert found["invalid_answers"] == pytest.approx(1 / 6)


def test_each_sparse_layer_has_figures():
    cosines = [0.5, None, 1.0, 1.0]
    table = latents(layer=[0, 0, 2, 2], detection=[0.9, 0.7, 0.9, 0.9], direction_cosine=cosines)
    first, none, last = figures_of(without(table, {3}), answers())[LAYERS]
    assert first == {"detection": pytest.approx(0.8), "latents_dead": 0, "direction_cosine": 0.5}
    assert none == {}
    assert last == {"detection": pytest.approx(0.7), "latents_dead": 0.5, "direction_cosine": 1}


def test_every_figure_is_a_metric():
    names = ("direction_cosine", "direction_share", "logit_kl", "shallow_cosine")
    more = {name: [0.5] * 4 for name in (*names, "detection_permuted")}
    found = figures_of(latents(**more), answers((0, 0, True), (0, 4, True)))
    pairs = {"found_again", "found_again_weighted"}  # of all latents: matching.py
    assert found.keys() - {LAYERS} == {metric.name for metric in OF_LATENTS} - pairs
