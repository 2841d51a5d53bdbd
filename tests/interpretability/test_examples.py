"""Windows that are shown of planted latents: activating ones by quantile, and four kinds of negatives."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.interpretability import contexts
from harness.interpretability.contexts import SCHEMA, write_contexts
from harness.interpretability.examples import ACTIVATING, NEGATIVES, Drawing, Examples
from harness.interpretability.firings import Firings
from harness.interpretability.windows import NO_TOKEN, Windows, windows_of
from harness.study.interpretability import Interpretability
from tests.interpretability.planted import KINDS, Planted, firings_from, planted, text_from

ASKED = Interpretability(windows=20, to_explain=30)


@pytest.fixture(scope="module")
def made() -> Planted:
    return planted()


@pytest.fixture(scope="module")
def windows(made: Planted) -> Windows:
    return windows_of(made.text, 32, 0)


def dense_of(firings: Firings, windows: Windows, latent: int) -> NDArray[np.float32]:
    """A latent's activations in all windows [M, L]."""
    dense = np.zeros(firings.total + 1, np.float32)
    dense[firings.tokens[firings.latents == latent]] = firings.values[firings.latents == latent]
    return dense[windows.rows]


def check(examples: Examples, activations: NDArray[np.float32], windows: Windows, asked: Interpretability) -> None:
    """What holds for the windows of every latent."""
    assert np.array_equal(examples.activations, activations[examples.windows])
    assert np.array_equal(examples.to_explain, windows.to_explain[examples.windows])
    active = activations.max(1, initial=0) > 0
    assert np.array_equal(examples.kinds == ACTIVATING, active[examples.windows])
    assert np.array_equal(examples.quantiles >= 0, examples.kinds == ACTIVATING)
    for side, count in ((True, asked.to_explain), (False, asked.windows)):
        here = windows.to_explain == side
        counts = Counter(examples.kinds[examples.to_explain == side].tolist())
        assert counts[ACTIVATING] <= min(count, (active & here).sum())
        if counts[ACTIVATING]:
            assert counts["random"] == counts["similar"] == min(count, (~active & here).sum())
            assert max(counts["same_token"], counts["neighbour"]) <= counts["random"]
        for kind in counts:
            of_kind = examples.only(kind, to_explain=side)
            assert len(of_kind) == counts[kind] == len(np.unique(of_kind.windows))
    peaks, shown = examples.peaks, examples.kinds == ACTIVATING
    assert (peaks[~shown] == -1).all()
    at_peak = examples.activations[np.arange(len(examples)), peaks]
    assert np.array_equal(at_peak[shown], examples.activations.max(1, initial=0)[shown])


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 6), st.integers(2, 9), st.integers(1, 5))
def test_what_holds_for_every_latent_of_any_text(
    seed: int, contexts: int, words: int, count: int, quantiles: int
) -> None:
    random = np.random.default_rng(seed)
    ids = random.integers(0, words, (contexts, 20))
    text = text_from(ids, random.standard_normal((ids.size, 2)).astype(np.float32))
    masks = [random.random(ids.size) < rate for rate in (0, 0.02, 0.3, 1)]
    firings = firings_from([*masks, ids.ravel() == 0], random)
    windows = windows_of(text, 8, seed)
    asked = Interpretability(window=8, windows=count, to_explain=2 * count, quantiles=quantiles)
    for latent in range(len(firings.counts)):
        examples = Drawing(windows, firings, asked).draw(latent, 0)
        check(examples, dense_of(firings, windows, latent), windows, asked)
        assert "same_token" not in examples.kinds or latent != 4  # it fires on all occurrences of a word


def test_a_draw_is_repeated_and_another_one_is_another(made: Planted, windows: Windows) -> None:
    drawing = Drawing(windows, made.firings, ASKED)
    for latent in (latent for kind in KINDS[:6] for latent in made.latents[kind][:1]):
        one, same = drawing.draw(latent, 0), Drawing(windows, made.firings, ASKED).draw(latent, 0)
        assert np.array_equal(one.windows, same.windows)
        assert np.array_equal(one.kinds, same.kinds)
        for other in (drawing.draw(latent, 1), Drawing(windows, made.firings, replace_seed(1)).draw(latent, 0)):
            assert set(one.windows.tolist()) != set(other.windows.tolist())


def replace_seed(seed: int) -> Interpretability:
    return ASKED.model_copy(update={"seed": seed})


def test_each_quantile_of_activation_has_as_many_windows(made: Planted, windows: Windows) -> None:
    examples = Drawing(windows, made.firings, ASKED).draw(made.latents["token"][0], 0)
    for side, each in ((True, 6), (False, 4)):
        shown = examples.only(ACTIVATING, to_explain=side)
        assert Counter(shown.quantiles.tolist()) == dict.fromkeys(range(5), each)
        strongest = shown.activations.max(1)
        ends = [(strongest[shown.quantiles == q].min(), strongest[shown.quantiles == q].max()) for q in range(5)]
        assert all(below[1] <= above[0] for below, above in pairwise(ends))


def test_dead_latents_have_no_windows_and_dense_ones_no_negatives(made: Planted, windows: Windows) -> None:
    drawing = Drawing(windows, made.firings, ASKED)
    assert not len(drawing.draw(made.latents["dead"][0], 0))
    assert set(drawing.draw(made.latents["dense"][0], 0).kinds.tolist()) == {ACTIVATING}


def test_windows_with_the_peak_token(made: Planted, windows: Windows) -> None:
    """Of latents that do not fire on all of its occurrences; where it does, no other windows stand in."""
    drawing = Drawing(windows, made.firings, ASKED)
    for kind, there_are in (("token", False), ("leaky_token", True), ("bigram", True), ("token_in_context", True)):
        for latent in made.latents[kind]:
            examples = drawing.draw(latent, 0)
            same = examples.windows[examples.kinds == "same_token"]
            assert (len(same) > 20) == there_are
            assert (windows.ids[same] == made.tokens[latent]).any(1).all()
    for topic, latent in enumerate(made.latents["token_in_context"]):
        elsewhere = drawing.draw(latent, 0).only("same_token", to_explain=False)
        assert topic not in made.topics[windows.context[elsewhere.windows]]


def test_each_peak_token_counts_as_often_as_the_latent_peaks_at_it(made: Planted, windows: Windows) -> None:
    """A latent that fires on 7 in 10 occurrences of a frequent and of a rare word: the rare one is not overdone.

    And one that fires on all of a frequent word, and on a rare one now and then: of the rare one there are as many
    negatives as it has peaks, though there is room for more.
    """
    random, flat = np.random.default_rng(0), made.text.ids.ravel()
    chance = random.random(len(flat))
    frequent, rare = flat == 32, flat == 50
    firings = firings_from([(frequent | rare) & (chance < 0.7), frequent | (rare & (chance < 0.3))], random)
    for latent, expected in ((0, True), (1, False)):
        examples = Drawing(windows, firings, ASKED).draw(latent, 0)
        active, same = (examples.only(kind, to_explain=True) for kind in (ACTIVATING, "same_token"))
        peaks = Counter(windows.ids[active.windows, active.peaks].tolist())
        assert peaks[32] > 3 * peaks[50] > 0
        with_rare = int((windows.ids[same.windows] == 50).any(1).sum())
        assert (len(same) > 20) == expected
        assert peaks[50] <= with_rare + 1
        assert with_rare <= peaks[50] + 5  # windows with both words


def test_nearest_windows_by_embeddings(made: Planted, windows: Windows) -> None:
    """One by one the best that is left; so those of a topic are of the topic, where they are silent there."""
    drawing = Drawing(windows, made.firings, ASKED)
    share = {}
    for kind in ("similar", "random"):
        found = [
            drawing.draw(latent, 0).only(kind, to_explain=False).windows
            for latent in made.latents["token_in_context"]
        ]
        share[kind] = np.mean([(made.topics[windows.context[w]] == n).mean() for n, w in enumerate(found)])
    assert share["similar"] > 0.8
    assert share["random"] < 0.3


def test_windows_of_the_nearest_neighbour(made: Planted, windows: Windows) -> None:
    """The neighbour fires elsewhere, too; or only where the latent does, so that the next one's windows follow."""
    random, flat = np.random.default_rng(0), made.text.ids.ravel()
    mine = (flat == 8) & (random.random(len(flat)) < 0.5)
    neighbour, next_one = mine | (flat == 9), mine | (flat == 10) | (flat == 11)
    within = mine & (random.random(len(flat)) < 0.9)
    others = random.random(len(flat)) < 0.01
    for masks, words in (([mine, neighbour, next_one, others], {9}), ([mine, within, neighbour], {9})):
        firings = firings_from(masks, random)
        found = Drawing(windows, firings, ASKED).draw(0, 0).only("neighbour", to_explain=True).windows
        assert len(found) == 30
        assert all(words & set(windows.ids[window].tolist()) for window in found)
    alone = Drawing(windows, firings_from([mine, ~mine], random), ASKED).draw(0, 0)
    assert "neighbour" not in alone.kinds  # nothing fires with it


def test_the_table_of_contexts(made: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was shown, from the file alone; padding is not in it. In one row group or several."""
    mask = np.arange(64) < np.random.default_rng(0).integers(33, 65, 512)[:, None]
    text = replace(made.text, mask=mask, rows=np.where(mask, made.text.rows, -1))
    windows = windows_of(text, 32, 0)
    drawing = Drawing(windows, made.firings, ASKED)
    drawn = [drawing.draw(latent, draw) for latent in (0, *made.latents["dead"], 9, 17) for draw in (0, 1)]
    assert [*write_contexts(tmp_path / "one.parquet", iter(drawn), windows)] == drawn  # it passes them on
    monkeypatch.setattr(contexts, "WINDOWS_AT_ONCE", 100)
    assert len([*write_contexts(tmp_path / "several.parquet", iter(drawn), windows)]) == len(drawn)
    table = pq.read_table(tmp_path / "one.parquet")
    assert pq.ParquetFile(tmp_path / "several.parquet").num_row_groups > 2
    assert table.equals(pq.read_table(tmp_path / "several.parquet"))
    assert table.schema == SCHEMA
    rows = iter(table.to_pylist())
    for one in drawn:
        for number, window in enumerate(one.windows):
            row = next(rows)
            tokens = [token for token in windows.ids[window].tolist() if token != NO_TOKEN]
            start = int(windows.start[window])
            assert tokens == text.ids[row["context"], start : start + 32][: len(tokens)].tolist()
            assert (row["latent"], row["draw"], row["kind"]) == (one.latent, one.draw, one.kinds[number])
            assert (row["window"], row["start"], row["tokens"]) == (window, start, tokens)
            assert row["to_explain"] == one.to_explain[number]
            assert row["activations"] == one.activations[number, : len(tokens)].tolist()
            if row["kind"] == ACTIVATING:
                assert row["quantile"] == one.quantiles[number]
                assert row["activations"][row["peak"]] == max(row["activations"]) > 0
                assert row["peak_token"] == tokens[row["peak"]]
            else:
                assert row["kind"] in NEGATIVES
                assert (row["quantile"], row["peak"], row["peak_token"]) == (None, None, None)
    assert next(rows, None) is None
    assert not [*write_contexts(tmp_path / "none.parquet", [], windows)]
    assert pq.read_table(tmp_path / "none.parquet").schema == SCHEMA
