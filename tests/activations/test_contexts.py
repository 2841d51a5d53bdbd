"""Contexts and windows against their definition written out, in any order, after kills."""

import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from harness.activations import text_dataset, text_files
from harness.activations.contexts import ContextReader
from harness.activations.corpus import train_tokenizer
from harness.activations.documents import END_OF_TEXT
from harness.activations.text import resolve
from harness.activations.text_spec import HeldOut, TextSpec
from harness.errors import UserError
from tests.activations.texts import (
    json_lines,
    same,
    settings,
    spec,
    tokenizer_of,
    windows_of,
    words,
    written_out,
)

TOKENIZER = tokenizer_of()
WITH_BOS = tokenizer_of(adds_bos=True)
GPT2 = tokenizer_of(["<eos>"])
GPT2.bos_token = GPT2.pad_token = "<eos>"

documents = st.lists(st.none() | st.lists(st.integers(0, 49), max_size=25).map(lambda n: words(*n)), max_size=30)
keys = st.fixed_dictionaries(
    {
        "context": st.integers(3, 9),
        "window": st.integers(1, 40),
        "skip_first": st.integers(0, 2),
        "pack": st.booleans(),
        "bos": st.sampled_from(["auto", "every_context", "never"]),
        "padding": st.sampled_from(["left", "right"]),
        "skip_special": st.booleans(),
    }
)


@hypothesis_settings(max_examples=60)
@given(documents, keys, st.sampled_from([TOKENIZER, WITH_BOS, GPT2]), st.integers(1, 4), st.data())
def test_windows_hold_every_kept_token_once_whatever_the_order(texts, keys, tokenizer, batch, data):
    adds_bos = keys["bos"] == "every_context" or (keys["bos"] == "auto" and tokenizer is WITH_BOS)
    if keys["skip_first"] + (adds_bos and keys["skip_special"]) >= keys["context"]:
        keys["skip_first"] = 0
    contexts = written_out(texts, tokenizer, settings(**keys), bos=adds_bos)
    kept = [t for ids, _, kept in contexts for t, k in zip(ids, kept, strict=True) if k]
    wanted = settings(**keys, tokens=max(1, data.draw(st.integers(0, len(kept)))))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "DOCUMENTS", batch)
        path, positions = Path(folder) / "text.jsonl", Path(folder) / "positions.jsonl"
        text = spec(json_lines(path, texts))
        if not kept:
            with pytest.raises(UserError, match=r"activations.tokens: expected at most 0,"):
                ContextReader(text, tokenizer, wanted, "train").window(0)
            return
        windows = windows_of(ContextReader(text, tokenizer, wanted, "train"))
        order = data.draw(st.lists(st.sampled_from(range(len(windows))), max_size=8))
        readers = [ContextReader(text, tokenizer, wanted, "train", positions=positions) for _ in range(2)]
        for index in order:
            for reader in readers:
                assert same(reader.window(index), windows[index])
    assert [int(window.kept.sum()) for window in windows[:-1]] == [wanted.window] * (len(windows) - 1)
    assert [t for window in windows for t in window.ids[window.kept]] == kept[: wanted.tokens]
    assert all(window.kept.any(1).all() for window in windows)
    known = {(tuple(ids), tuple(mask)) for ids, mask, _ in contexts}
    for ids, mask, _ in windows:
        masks = np.ones(ids.shape, bool) if mask is None else mask
        assert {(tuple(i), tuple(m)) for i, m in zip(ids.tolist(), masks.tolist(), strict=True)} <= known


def one_window(tmp_path, tokenizer, texts, **keys):
    """The ids of all contexts, as lists."""
    wanted = settings(**keys)
    reader = ContextReader(spec(json_lines(tmp_path / "text.jsonl", texts)), tokenizer, wanted, "train")
    return reader.window(0)


SHORT = [words(1), words(2, 3), words(4, 5, 6), words(7), words(8, 9)]


@pytest.mark.parametrize("bos", ["auto", "every_context"])
def test_short_documents_put_no_bos_in_mid_context(tmp_path, bos):
    """SAELens' issues 472 and 333; BOS has the id 0, which is no `None`."""
    window = one_window(tmp_path, WITH_BOS, SHORT, context=6, tokens=9, bos=bos)
    bos_id, eos, pad = WITH_BOS.bos_token_id, WITH_BOS.eos_token_id, WITH_BOS.pad_token_id
    w = [WITH_BOS.convert_tokens_to_ids(f"w{n}") for n in range(10)]
    assert bos_id == 0
    assert window.ids.tolist() == [
        [bos_id, w[1], eos, w[2], w[3], eos],
        [bos_id, w[4], w[5], w[6], eos, w[7]],
        [bos_id, w[8], w[9], pad, pad, pad],
    ]
    assert window.mask.tolist() == [[True] * 6, [True] * 6, [True] * 3 + [False] * 3]
    assert window.kept.tolist() == [
        [False, True, False, True, True, False],
        [False, True, True, True, False, True],
        [False, True, True, False, False, False],
    ]


@pytest.mark.parametrize(("tokenizer", "bos"), [(WITH_BOS, "never"), (TOKENIZER, "auto"), (GPT2, "auto")])
def test_without_bos_there_is_none(tmp_path, tokenizer, bos):
    window = one_window(tmp_path, tokenizer, SHORT, context=6, tokens=9, bos=bos)
    eos = tokenizer.eos_token_id
    w = [tokenizer.convert_tokens_to_ids(f"w{n}") for n in range(10)]
    assert window.ids[0].tolist() == [w[1], eos, w[2], w[3], eos, w[4]]
    assert not (window.ids[:, 0] == eos).any()  # no context starts with a separator
    assert tokenizer is GPT2 or not (window.ids == tokenizer.bos_token_id).any()


@pytest.mark.parametrize("bos", ["every_context", "never"])
def test_one_document_per_context(tmp_path, bos):
    texts = [words(1), words(*range(10)), "", None, words(4, 5)]
    window = one_window(tmp_path, WITH_BOS, texts, context=4, tokens=6, bos=bos, pack=False, padding="left")
    first = [0] if bos == "every_context" else []
    pad = WITH_BOS.pad_token_id
    w = [WITH_BOS.convert_tokens_to_ids(f"w{n}") for n in range(10)]
    expected = [[*first, w[1]], [*first, *w][:4], [*first, w[4], w[5]]]
    assert window.ids.tolist() == [[pad] * (4 - len(ids)) + ids for ids in expected]
    assert window.mask.tolist() == [[False] * (4 - len(ids)) + [True] * len(ids) for ids in expected]


def test_first_positions_are_counted_from_the_first_that_is_no_padding(tmp_path):
    texts = [words(1, 2), words(*range(10))]
    window = one_window(tmp_path, WITH_BOS, texts, context=6, tokens=5, pack=False, padding="left", skip_first=2)
    assert window.kept.tolist() == [[False] * 5 + [True], [False] * 2 + [True] * 4]


def test_a_text_that_mentions_a_special_token_does_not_end_there(tmp_path):
    mention = f"one {END_OF_TEXT} two"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(["a"], 300), bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )
    assert tokenizer.eos_token_id in tokenizer(mention)["input_ids"]
    window = one_window(tmp_path, tokenizer, [mention], context=64, tokens=10)
    assert tokenizer.decode(window.ids[0][window.mask[0]]) == mention
    assert window.kept[0][:10].all()


def test_a_slow_tokenizer_gives_the_same_ids(tmp_path, monkeypatch):
    from harness.activations import encoding

    fast = one_window(tmp_path, TOKENIZER, SHORT, context=6, tokens=9)
    monkeypatch.setattr(encoding, "_own_copy", lambda tokenizer: None)
    assert same(fast, one_window(tmp_path, TOKENIZER, SHORT, context=6, tokens=9))


LONG = [words(*(np.random.default_rng(n).integers(0, 50, n % 40))) for n in range(600)]


@pytest.fixture
def long_text(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "DOCUMENTS", 7)
    return spec(json_lines(tmp_path / "long.jsonl", LONG))


def reader_of(text, positions=None):
    return ContextReader(
        text, TOKENIZER, settings(context=16, tokens=9000, window=100), "train", positions=positions
    )


def test_a_known_window_is_read_from_its_position_on(long_text, tmp_path, monkeypatch):
    positions = tmp_path / "positions.jsonl"
    windows = windows_of(reader_of(long_text, positions))
    read = []
    lines = text_files._lines
    monkeypatch.setattr(text_files, "_lines", lambda *at: (read.append(line) or line for line in lines(*at)))
    assert same(reader_of(long_text, positions).window(80), windows[80])
    assert 0 < len(read) < 50


def _read(text, positions, at_most, pipe):
    reader = reader_of(text, positions)
    pipe.send("ready")
    for index in range(at_most, len(reader)):
        pipe.send((index, reader.window(index)))


def test_token_ids_go_on_exactly_after_kills(long_text, tmp_path):
    """Ten processes, one after another, each killed at a random moment."""
    expected = windows_of(reader_of(long_text))
    positions, random = tmp_path / "positions.jsonl", np.random.default_rng(0)
    fork = get_context("fork")
    found = []
    for life in range(10):
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=_read, args=(long_text, positions, len(found), theirs))
        process.start()
        theirs.close()
        assert ours.recv() == "ready"
        for _ in range(int(random.integers(1, 8)) if life < 9 else len(expected)):
            if len(found) == len(expected):
                break
            index, window = ours.recv()
            assert index == len(found)
            found.append(window)
        process.kill()
        process.join()
        ours.close()
    assert len(found) == len(expected) == 90
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("keep", [0, 10, 400, 1001, 2000])
def test_a_damaged_file_of_positions_costs_time_alone(long_text, tmp_path, keep):
    positions = tmp_path / "positions.jsonl"
    windows = windows_of(reader_of(long_text, positions))
    positions.write_bytes(positions.read_bytes()[:keep] + b"\xff{")
    for index in (60, 3, 89, 20):
        assert same(reader_of(long_text, positions).window(index), windows[index])


def test_what_is_known_is_not_noted_again(long_text, tmp_path):
    positions = tmp_path / "positions.jsonl"
    windows_of(reader_of(long_text, positions))
    before = positions.read_bytes()
    windows_of(reader_of(long_text, positions))
    assert positions.read_bytes() == before


def test_positions_that_cannot_be_written_are_done_without(long_text, tmp_path):
    windows = windows_of(reader_of(long_text))
    nowhere = tmp_path / "long.jsonl" / "positions.jsonl"  # below a file
    assert same(reader_of(long_text, nowhere).window(9), windows[9])


def test_readers_of_other_processes_are_heard_of(long_text, tmp_path):
    positions = tmp_path / "positions.jsonl"
    ours, other = reader_of(long_text, positions), reader_of(long_text, positions)
    windows = windows_of(other)
    assert ours._known.before(50)[0] == 50
    assert same(ours.window(50), windows[50])


@pytest.mark.parametrize("changed", ["text", "tokenizer", "context"])
def test_positions_of_something_else_are_not_used(long_text, tmp_path, changed):
    positions = tmp_path / "positions.jsonl"
    windows_of(reader_of(long_text, positions))
    tokenizer, wanted = TOKENIZER, settings(context=16, tokens=8000, window=100)
    if changed == "text":
        long_text = spec(json_lines(tmp_path / "long.jsonl", LONG[40:]))
    elif changed == "tokenizer":
        tokenizer = WITH_BOS
    else:
        wanted = settings(context=12, tokens=8000, window=100)
    with_file = ContextReader(long_text, tokenizer, wanted, "train", positions=positions)
    assert same(with_file.window(70), ContextReader(long_text, tokenizer, wanted, "train").window(70))


def test_a_text_that_is_too_short_says_how_many_tokens_it_has(tmp_path):
    texts = [words(1, 2, 3)] * 5
    text = spec(json_lines(tmp_path / "text.jsonl", texts))
    reader = ContextReader(text, TOKENIZER, settings(tokens=16, window=4), "train")
    assert len(reader) == 4
    reader.window(2)
    message = r"^activations.tokens: expected at most 15, the tokens of the train text, got 16$"
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            reader.window(3)
    reader.window(2)
    with pytest.raises(IndexError):
        reader.window(4)


def test_a_held_out_text_without_documents_says_so(tmp_path):
    reader = ContextReader(
        spec(json_lines(tmp_path / "text.jsonl", SHORT)), TOKENIZER, settings(tokens=5), "held_out"
    )
    message = (
        "activations.held_out_tokens: expected at most 0, the tokens of the held_out text, got 5; no document"
    )
    with pytest.raises(UserError, match=message):
        reader.window(0)


@pytest.mark.parametrize(
    ("special", "keys", "message"),
    [
        (["<bos>", "<pad>"], {}, "activations.pack: expected false: the tokenizer has no EOS token"),
        (["<eos>"], {"bos": "every_context"}, "activations.bos: expected auto or never: .* has no BOS token"),
        (["<eos>"], {"skip_first": 8}, "activations.skip_first: expected less than the context of 8, got 8"),
    ],
)
def test_what_the_tokenizer_lacks(tmp_path, special, keys, message):
    text = spec(json_lines(tmp_path / "text.jsonl", SHORT))
    with pytest.raises(UserError, match=message):
        ContextReader(text, tokenizer_of(special), settings(**keys), "train")


def test_the_positions_of_a_dataset_are_its_streams_states(tmp_path, monkeypatch):
    monkeypatch.setattr(text_dataset, "DOCUMENTS", 7)
    (tmp_path / "set").mkdir()
    json_lines(tmp_path / "set" / "train.jsonl", LONG)
    text = resolve(TextSpec(dataset=str(tmp_path / "set"), held_out=HeldOut(share=1e-9)))
    positions = tmp_path / "positions.jsonl"
    windows = windows_of(reader_of(text, positions))
    for index in (70, 5, 40):
        assert same(reader_of(text, positions).window(index), windows[index])
