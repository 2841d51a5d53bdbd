"""The held-out text that latents are read on: all of it, with the activations of the store, from any source."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.activations.capture import capture_activations
from harness.activations.capture_windows import capture_windows
from harness.activations.held_out_text import HeldOutText, read_held_out_text, write_held_out_text
from harness.activations.store import MANIFEST, ActivationStore
from harness.activations.store_writer import StoreWriter
from harness.errors import UserError
from harness.files import read_record, write_json
from harness.interpretability import text as module
from harness.interpretability.text import Text, read_text
from harness.interpretability.windows import NO_TOKEN, windows_of

from .conftest import Folders, MakeSource
from .pretrained_models import ARCHITECTURES, save_model, save_text, source_file

ALL = 1_000_000  # tokens
Rows = NDArray[Any]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    read_text.cache_clear()


def check(text: Text, store: ActivationStore, x: Rows, target: Rows, atol: float) -> None:
    """Activations, in the order of the text, and their places in it."""
    assert len(text) == store.tokens("held_out") == len(x)
    np.testing.assert_allclose(text.x, x, atol=atol)
    np.testing.assert_allclose(text.target, target, atol=atol)
    assert text.rows[text.rows >= 0].tolist() == list(range(len(text)))


def test_docstrings_have_all_tokens_of_the_store(folders: Folders) -> None:
    """The store's rows are shuffled, by a seed that is known."""
    text = read_text(folders.activations, "cpu", ALL)
    store = ActivationStore.open(folders.activations)
    places = np.random.default_rng([0, 1]).permutation(1_500)
    rows = store.read("held_out", 0, 1_500)[places].astype(np.float32)
    check(text, store, rows, rows, atol=float(np.abs(rows).max()) / 1000)
    assert text.target is text.x
    assert text.mask is None
    assert (text.ids[text.rows < 0] == text.tokenizer.eos_token_id).all()
    assert read_text(folders.activations, "cpu", ALL) is text


def test_transcoders_have_targets(make_source: MakeSource, folders: Folders, tmp_path: Path) -> None:
    change = "hook: transformer.h.1.mlp\n  side: input\n  target: {hook: transformer.h.1.mlp}\n  dtype: float32"
    out = tmp_path / "activations"
    capture_activations(
        make_source(("hook: transformer.h.0", change)), folders.corpus, folders.language_model, out
    )
    store = ActivationStore.open(out)
    assert store.targets is not None
    places = np.random.default_rng([0, 1]).permutation(1_500)
    x, target = (one.read("held_out", 0, 1_500)[places] for one in (store, store.targets))
    check(read_text(out, "cpu", ALL), store, x, target, atol=1e-5)


LAYOUTS: dict[str, dict[str, Any]] = {
    "packed": {},
    "streamed, BOS in every context": {"bos": "every_context", "skip_first": 2, "feed": "stream"},
    "padded on the right": {"pack": "false", "skip_special": "false"},
    "streamed, padded on the left": {"pack": "false", "padding": "left", "skip_first": 1, "feed": "stream"},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_pretrained_sources_keep_the_text_of_all_windows(layout: dict[str, Any], tmp_path: Path) -> None:
    """Held-out tokens of three windows, which begin and end within contexts."""
    model, documents = save_model("llama", tmp_path / "model"), save_text(tmp_path / "text.jsonl")
    hook = ARCHITECTURES["llama"].block
    source = source_file(tmp_path, model, documents, hook, window=37, dtype="float32", **layout)
    capture_windows(source, tmp_path / "out")
    store = ActivationStore.open(tmp_path / "out")
    text = read_text(tmp_path / "out", "cpu", ALL)
    rows = store.read("held_out", 0, 100)
    check(text, store, rows, rows, atol=1e-4)
    assert (text.mask is not None) == ("pack" in layout)
    windows = windows_of(text, 4, 0)
    words = text.tokenizer.convert_ids_to_tokens(windows.ids[windows.ids != NO_TOKEN].tolist())
    assert "<pad>" not in words
    assert {word for word in words if "word" not in word} <= {"<s>", "</s>"}
    assert (windows.ids[:, 0] != NO_TOKEN).all()


def test_fewer_tokens_are_contexts_from_all_over_the_text(folders: Folders) -> None:
    whole = read_text(folders.activations, "cpu", ALL)
    contexts = len(whole.ids)
    part = read_text(folders.activations, "cpu", 300)
    chosen = np.arange(len(part.ids)) * contexts // len(part.ids)
    assert np.array_equal(part.ids, whole.ids[chosen])
    assert len(part) == pytest.approx(300, abs=32)
    rows = whole.rows[chosen]
    assert torch.allclose(part.x, whole.x[rows[rows >= 0]], atol=1e-5)
    assert np.array_equal(part.rows >= 0, rows >= 0)
    assert len(read_text(folders.activations, "cpu", 1).ids) == 1


def test_a_store_without_all_of_its_text_is_refused(folders: Folders, tmp_path: Path) -> None:
    """As those are that were made before latents were read."""
    shutil.copytree(folders.language_model, tmp_path / "language_model")
    out = shutil.copytree(folders.activations, tmp_path / "activations")
    manifest = read_record(out / MANIFEST) or {}
    about = manifest["text"]
    head: HeldOutText = read_held_out_text(out, about).head()
    given = {name: about[name] for name in ("model", "model_fingerprint", "reads", "replaces")}
    write_json(out / MANIFEST, manifest | {"text": write_held_out_text(out, head, **given)})
    with pytest.raises(UserError, match="expected all of its held-out text, found the head; make the activations"):
        read_text(out, "cpu", ALL)

    writer = StoreWriter(tmp_path, {"train": 8, "held_out": 4}, 2, "float32")
    for split, tokens in writer.tokens.items():
        writer.put(split, np.arange(tokens), np.random.default_rng(0).random((tokens, 2), np.float32))
    writer.finish(hook="synthetic")
    with pytest.raises(UserError, match="expected activations of a text"):
        read_text(tmp_path, "cpu", ALL)


def test_a_text_of_which_models_would_run_on_other_tokens_than_was_said_is_refused(folders: Folders) -> None:
    """As one that held the head alone would be: its own head is a sixteenth of that."""
    about = (read_record(folders.activations / MANIFEST) or {})["text"]
    with pytest.raises(UserError, match="was written by another version of harness; make the activations again"):
        read_held_out_text(folders.activations, about | {"tokens": about["tokens"] + 1})


def test_the_activations_are_on_disk_and_a_full_disk_is_said(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred times as many as are here would be in no more memory."""
    address = read_text(folders.activations, "cpu", ALL).x.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= address < end:
            assert line.endswith("(deleted)")  # a file without a name: nothing of it is left behind
            break
    else:
        raise AssertionError("the activations are nowhere in memory")

    def full() -> IO[bytes]:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(module, "TemporaryFile", full)
    read_text.cache_clear()
    with pytest.raises(UserError, match="the disk is full"):
        read_text(folders.activations, "cpu", ALL)
