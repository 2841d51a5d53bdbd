"""The life of latents: hand-counted deaths and revivals, censoring, intervals that cover, and older results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import gamma

from harness.analysis.figures import FIGURES
from harness.analysis.life import effects as life_effects
from harness.analysis.life import rates as life
from harness.analysis.life.hazards import Dispersion, Events, dispersion, rate_interval, ratio_interval
from harness.analysis.plots.style import house_style
from harness.analysis.results.files import read_table
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write

WINDOW, LATENTS = 100, 200
Counts = tuple[int, int, int | None, int | None, int | None]  # seed, tokens, dead, died, revived


def study(folder: Path, arms: dict[str, Sequence[Counts]], seeds: int = 2) -> Path:
    """Arms with these points of curves, counts of 200 latents, through the tables."""
    cells, curves = [], []
    for name, points in arms.items():
        cells += [cell_record({"layers": name}, seed, 0.1 + 0.001 * seed) for seed in range(seeds)]
        by_seed = {cell["seed"]: cell["cell"] for cell in cells[-seeds:]}
        for seed, tokens, *counts in points:
            names = ("train_dead_fraction", "train_died_fraction", "train_revived_fraction")
            shares = {
                n: None if count is None else count / LATENTS for n, count in zip(names, counts, strict=True)
            }
            curves.append({"cell": by_seed[seed], "step": tokens, "tokens": tokens, **shares})
    recipe = {"latents": LATENTS, "k": 16}
    record = study_record(
        "s", {"layers": list(arms)}, list(range(seeds)), cells=len(cells), dead_window=WINDOW, recipe=recipe
    )
    write(folder, record, cells, curves)
    make_tables(folder)
    return folder


POINTS: list[Counts] = [
    (0, 50, None, None, None),
    (0, 150, 20, 20, 0),
    (0, 250, 36, 18, 2),
    (0, 350, 45, 10, 1),
    (1, 50, None, None, None),
    (1, 150, 24, 24, 0),
    (1, 250, 40, 20, 4),
    (1, 350, 45, 6, 1),
]


def test_latents_of_each_stacked_layer_are_counted(tmp_path: Path):
    """`sparse 3 each` has three times as many latents, and shares of dead ones are of all of them."""
    rows = read_table(study(tmp_path, {"sparse 3": POINTS, "sparse 3 each": POINTS}), "life").to_dicts()
    alone, each = ([row for row in rows if row["arm"] == arm] for arm in ("sparse 3", "sparse 3 each"))
    for name in ("latents", "dead_before", "died", "revived"):
        assert [row[name] for row in each] == [3 * row[name] for row in alone]
    assert each[-1]["death_hazard"] == pytest.approx(alone[-1]["death_hazard"])


def test_counts_hazards_and_censoring_by_hand(tmp_path: Path):
    first, second, third, whole = read_table(study(tmp_path, {"none": POINTS}), "life").to_dicts()
    assert (first["kind"], first["tokens_from"], first["trained_tokens"]) == ("first window", 50, 150)
    assert (first["latents"], first["died"], first["death_hazard"]) == (400, 44, None)
    assert (first["last_fired_from"], first["last_fired_to"]) == (0, 50)  # or never
    assert (second["kind"], second["dead_before"], second["died"], second["revived"]) == ("point", 44, 38, 6)
    assert (second["last_fired_from"], second["last_fired_to"]) == (50, 150)
    # 38 deaths among 356 living, half of those who died at risk half of the time, in 100 tokens
    assert second["death_hazard"] == pytest.approx(38 / ((356 - 19) * 1e-4))
    assert second["revival_hazard"] == pytest.approx(6 / ((44 - 3) * 1e-4))
    assert third["last_fired_to"] == 250  # who has fallen silent after that is not known
    assert (whole["kind"], whole["died"], whole["tokens_from"], whole["trained_tokens"]) == (
        "training",
        54,
        150,
        350,
    )
    exposure = (356 - 19 + 324 - 8) * 1e-4
    assert whole["death_hazard"] == pytest.approx(54 / exposure)
    assert whole["death_hazard_low"] < whole["death_hazard"] < whole["death_hazard_high"]
    (sentence,) = life.sentences(load_view(tmp_path))
    assert sentence.text.startswith(
        "s: 11.0 % of the latents dead at 150 tokens, the first full window; since then"
    )
    assert sentence.row == 4


def test_results_of_before_have_no_rows_and_no_figure(tmp_path: Path):
    old: list[Counts] = [(seed, tokens, 10, None, None) for seed in (0, 1) for tokens in (50, 150, 250)]
    results = study(tmp_path, {"none": old, "sparse 3": old})
    assert read_table(results, "life").is_empty()
    assert read_table(results, "life_effects").is_empty()
    view = load_view(results)
    assert life.sentences(view) == life_effects.sentences(view) == []
    with house_style():
        assert FIGURES["life"](view) is None


def test_the_figure_and_the_effects_of_a_remedy(tmp_path: Path):
    fewer: list[Counts] = [
        (s, t, d if d is None else d // 4, i if i is None else i // 4, r) for s, t, d, i, r in POINTS
    ]
    results = study(tmp_path, {"none": POINTS, "penalty": fewer})
    (row,) = read_table(results, "life_effects").to_dicts()
    assert 0 < row["death_ratio_low"] < row["death_ratio"] < row["death_ratio_high"] < 1
    assert (row["death_verdict"], row["n"]) == ("lower", 2)
    view = load_view(results)
    (sentence,) = life_effects.sentences(view)
    assert sentence.text.startswith("penalty instead of none: after the first dead window living latents die 0.")
    with house_style():
        figure = FIGURES["life"](view)
        assert figure is not None
        figure.draw_without_rendering()
    deaths = figure.subfigs[1].axes[0]
    assert [list(line.get_xdata()) for line in deaths.lines] == [[150, 250, 350]] * 2
    assert deaths.get_xlim()[0] == 0  # nothing is drawn before the first full window, but the axis shows it


def test_seeds_whose_points_differ_are_compared_on_the_steps_that_all_have(tmp_path: Path):
    other = [*POINTS[:4], (1, 50, None, None, None), (1, 250, 40, 40, 0), (1, 350, 45, 6, 1)]
    rows = read_table(study(tmp_path, {"none": other}), "life").to_dicts()
    assert [(row["kind"], row["tokens_from"], row["n"]) for row in rows] == [
        ("point", 250, 2),
        ("training", 250, 2),
    ]


def test_one_seed_has_hazards_without_intervals(tmp_path: Path):
    rows = read_table(study(tmp_path, {"none": POINTS[:4]}, seeds=1), "life").to_dicts()
    assert rows[-1]["death_hazard"] is not None
    assert rows[-1]["death_hazard_low"] is None


def test_no_event_has_an_upper_end_and_no_ratio():
    none, some = [Events(0, 10.0)] * 3, [Events(4, 10.0), Events(6, 10.0), Events(5, 10.0)]
    spread = dispersion([some] * 20)
    interval = rate_interval(none, spread)
    assert interval is not None
    assert (interval.mean, interval.low) == (0, 0)
    assert interval.high == pytest.approx(3.69 / 30, rel=0.1)  # of a Poisson count of 0
    assert ratio_interval(some, none, spread) is None
    ratio = ratio_interval(none, some, spread)
    assert ratio is not None
    assert (ratio.mean, ratio.low) == (0, 0)
    assert 0 < ratio.high < 1


@pytest.mark.parametrize("overdispersed", [False, True])
def test_intervals_cover_rates_and_ratios(overdispersed: bool):
    rng = np.random.default_rng(1)
    inside = ratios = 0
    for _ in range(400):
        # 12 points of an arm, whose seeds share a dispersion; a hazard of 2 in exposures of 5
        rates = 2 * rng.gamma(8, 1 / 8, (12, 3)) if overdispersed else np.full((12, 3), 2.0)
        points = [[Events(int(c), 5.0) for c in counts] for counts in rng.poisson(5 * rates)]
        spread = dispersion(points)
        interval, ratio = rate_interval(points[0], spread), ratio_interval(points[1], points[2], spread)
        assert interval is not None
        assert ratio is not None
        inside += interval.low <= 2 <= interval.high
        ratios += ratio.low <= 1 <= ratio.high
    assert 0.93 <= inside / 400 <= 0.99
    assert 0.93 <= ratios / 400 <= 0.99


def test_a_dispersion_known_from_few_seeds_widens_intervals_as_students_t_does():
    """Garwood's interval of 20 events, of which t(2)² / z² = 4.82 count as one."""
    interval = rate_interval([Events(8, 1.0), Events(12, 1.0)], Dispersion(1.0, 2))
    times = (4.302653 / 1.959964) ** 2
    assert interval.low == pytest.approx(times * gamma.ppf(0.025, 20 / times) / 2, rel=1e-5)
    assert interval.high == pytest.approx(times * gamma.ppf(0.975, 20 / times + 1) / 2, rel=1e-5)
