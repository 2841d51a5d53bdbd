"""Windows of a text, against loops over its positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.interpretability import embeddings
from harness.interpretability.embeddings import embeddings_of
from harness.interpretability.text import Text
from harness.interpretability.windows import NO_TOKEN, windows_of
from tests.interpretability.planted import Planted, planted, text_from

Window = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@pytest.fixture(scope="module")
def made() -> Planted:
    return planted()


def some_text(seed: int, contexts: int, positions: int, padding: str, words: int) -> Text:
    """Random words, of which about one in five has no activations; perhaps with padding on one side."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, words, (contexts, positions))
    kept = random.random(ids.shape) < 0.8
    mask = None
    if padding != "none":
        lengths = random.integers(1, positions + 1, contexts)
        mask = np.arange(positions) < lengths[:, None]
        mask = mask[:, ::-1] if padding == "left" else mask
        kept &= mask
    rows = np.where(kept, kept.ravel().cumsum().reshape(kept.shape) - 1, -1)
    x = random.standard_normal((int(kept.sum()), 3)).astype(np.float32)
    return replace(text_from(ids, x, rows), mask=mask)


def expected_windows(text: Text, length: int) -> list[Window]:
    """Context, start, tokens and rows of each window, one position after another."""
    found: list[Window] = []
    mask = np.ones(text.ids.shape, bool) if text.mask is None else text.mask
    for context in range(len(text.ids)):
        real = np.flatnonzero(mask[context]).tolist()
        for start in range(0, len(real), length):
            here = real[start : start + length]
            fill = (-1,) * (length - len(here))
            ids = (*(int(text.ids[context, position]) for position in here), *fill)
            rows = (*(int(text.rows[context, position]) for position in here), *fill)
            enough = 2 * sum(row >= 0 for row in rows) >= length
            if enough and ids not in [window[2] for window in found]:
                found.append((context, here[0], ids, rows))
    return found


@given(
    st.integers(0, 2**31),
    st.integers(2, 12),
    st.integers(8, 40),
    st.sampled_from([4, 8, 13]),
    st.sampled_from(["none", "left", "right"]),
    st.sampled_from([2, 50]),
)
def test_against_loops(seed: int, contexts: int, positions: int, length: int, padding: str, words: int) -> None:
    text = some_text(seed, contexts, positions, padding, words)
    length = min(length, positions)
    expected = expected_windows(text, length)
    windows = windows_of(text, length, seed)
    found = zip(
        windows.context.tolist(), windows.start.tolist(), windows.ids.tolist(), windows.rows.tolist(), strict=True
    )
    assert [(c, s, tuple(i), tuple(r)) for c, s, i, r in found] == expected
    sides = dict(zip(windows.context.tolist(), windows.to_explain.tolist(), strict=True))
    assert [sides[context] for context in windows.context.tolist()] == windows.to_explain.tolist()
    for token in range(words):
        having = [
            number
            for number, (_, _, ids, rows) in enumerate(expected)
            if any(i == token and r >= 0 for i, r in zip(ids, rows, strict=True))
        ]
        assert windows.with_token(token).tolist() == having

    random = np.random.default_rng(seed)
    dense = np.append(random.random(len(text)) * (random.random(len(text)) < 0.2), 0).astype(np.float32)
    fires = np.flatnonzero(dense)
    activations = dense[[rows for *_, rows in expected]] if expected else np.empty((0, length))
    assert np.array_equal(windows.strongest(fires, dense[fires]), activations.max(1, initial=0))
    some = random.permutation(len(expected))
    assert np.array_equal(windows.activations(fires, dense[fires], some), activations[some])


def test_half_of_the_contexts_are_to_explain_which_ones_is_decided_by_the_seed(made: Planted) -> None:
    one, same, other = (windows_of(made.text, 32, seed) for seed in (0, 0, 1))
    for windows in (one, other):
        assert len(np.unique(windows.context[windows.to_explain])) == 256
        assert len(np.unique(windows.context)) == 512
    assert np.array_equal(one.to_explain, same.to_explain)
    assert 0.4 < (one.to_explain == other.to_explain).mean() < 0.6


def packed(lengths: NDArray[np.int64], positions: int) -> tuple[Text, NDArray[np.int64]]:
    """Documents of different words, each behind a separator, which is 0; and the document of each position."""
    documents = np.repeat(np.arange(len(lengths)), lengths)
    begins = np.diff(documents, prepend=-1) > 0
    size = len(documents) // positions * positions
    ids = np.where(begins, 0, np.arange(1, len(documents) + 1))[:size].reshape(-1, positions)
    rows = np.where(ids > 0, (ids > 0).ravel().cumsum().reshape(ids.shape) - 1, -1)
    x = np.random.default_rng(0).standard_normal((int((ids > 0).sum()), 3)).astype(np.float32)
    text = text_from(ids, x, rows)
    text.tokenizer.eos_token_id = 0
    return text, documents[:size].reshape(ids.shape)


@pytest.mark.parametrize("longest", [4, 40, 400])
def test_no_document_is_on_both_sides(longest: int) -> None:
    """Documents go on over the ends of contexts. Windows with documents of both sides are few, and left out."""
    lengths = np.random.default_rng(1).integers(2, longest, 20_000 // longest)
    text, documents = packed(lengths, 64)
    windows = windows_of(text, 8, 0)
    found: list[set[int]] = [set(), set()]
    for context, start, explains in zip(windows.context, windows.start, windows.to_explain, strict=True):
        here = slice(start, start + 8)
        found[int(explains)] |= set(documents[context, here][text.rows[context, here] >= 0].tolist())
    assert not found[0] & found[1]
    assert 0.35 < windows.to_explain.mean() < 0.65
    assert len(windows) > 0.85 * text.ids.size / 8 * (text.rows >= 0).mean() ** 8


def test_where_documents_are_few_contexts_are_halved() -> None:
    text, _ = packed(np.array([4000, 4000]), 64)
    windows = windows_of(text, 8, 0)
    sides = [set(windows.to_explain[windows.context == context].tolist()) for context in range(125)]
    assert all(len(one) == 1 for one in sides)
    assert sum(one == {True} for one in sides) == 62


def test_the_side_of_padding_makes_no_difference() -> None:
    """The same documents, padded on the left and on the right."""
    right = some_text(0, 9, 20, "right", 50)
    assert right.mask is not None
    lengths = right.mask.sum(1)

    def shifted(part: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack([np.roll(row, -length) for row, length in zip(part, lengths, strict=True)])

    left = replace(right, ids=shifted(right.ids), rows=shifted(right.rows), mask=right.mask[:, ::-1])
    one, other = windows_of(right, 8, 0), windows_of(left, 8, 0)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.rows, other.rows)
    assert (one.ids == NO_TOKEN).any()
    assert np.array_equal(other.start - one.start, (20 - lengths)[one.context])


def similarity(made: Planted) -> float:
    """How much nearer windows of one topic are to each other than to others, as a difference of cosines."""
    windows = windows_of(made.text, 32, 0)
    alike, topic = windows.embedding @ windows.embedding.T, made.topics[windows.context]
    same = topic[:, None] == topic
    np.fill_diagonal(alike, np.nan)
    return float(np.nanmean(alike[same]) - np.nanmean(alike[~same]))


def test_windows_on_one_topic_are_near_each_other(made: Planted) -> None:
    assert similarity(made) > 0.4


def test_a_huge_dimension_and_a_large_mean_decide_nothing(made: Planted) -> None:
    """As language models have them at a few dimensions."""
    x = made.text.x.clone()
    x[:, 3] += 100 * torch.randn(len(x), generator=torch.Generator().manual_seed(0))
    x[:, 5] += 1000
    assert similarity(replace(made, text=replace(made.text, x=x))) > 0.3


def test_embeddings_have_length_1_whatever_is_gathered_at_once(
    made: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(640).reshape(20, 32)
    rows[3, 5:] = rows[7, 0] = -1
    whole = embeddings_of(made.text.x, rows)
    monkeypatch.setattr(embeddings, "NUMBERS_AT_ONCE", 32 * 32 * 3)
    assert embeddings_of(made.text.x, rows) == pytest.approx(whole, abs=1e-6)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(np.ones(20))
    means = np.stack([made.text.x[row[row >= 0]].numpy().mean(0) for row in rows])
    standardised = (means - means.mean(0)) / means.std(0)
    cosines = standardised @ standardised.T / np.outer(*[np.linalg.norm(standardised, axis=1)] * 2)
    assert whole @ whole.T == pytest.approx(cosines, abs=1e-5)
