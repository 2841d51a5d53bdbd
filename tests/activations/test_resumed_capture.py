"""Capturing goes on where it was killed, and a window has the same bits whoever makes it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.activations import capture_windows as capturing
from harness.activations.capture_windows import capture_windows
from harness.activations.documents import Split
from harness.activations.folders import sha256_of
from harness.activations.store import ActivationStore
from harness.activations.windows import WindowMaker
from harness.errors import UserError
from harness.files import read_record
from harness.sources.pretrained import Pretrained

from .conftest import snapshot
from .pretrained_models import save_model, save_text, source_file

WINDOWS = 10  # of the training split
TARGET = "{hook: transformer.h.1.mlp}"


def place(root: Path) -> Path:
    """Where a source's store is, beside no other source, whose shards would be taken over."""
    return root / "mine" / "activations"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """A transcoder's source: two shards of each window."""
    root = tmp_path_factory.mktemp("resumed")
    model, text = save_model("gpt2", root / "gpt2"), save_text(root / "text.jsonl", 600)
    more = {"window": 64, "tokens": 64 * WINDOWS - 7, "side": "input", "target": TARGET}
    return source_file(root, model, text, "transformer.h.1.mlp", **more)


@pytest.fixture(scope="module")
def whole(source: Pretrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its store, captured at one go."""
    out = place(tmp_path_factory.mktemp("whole"))
    capture_windows(source, out)
    return out


KILL = """
import os, signal, sys
from pathlib import Path
from harness.activations import capture_windows as capturing
from harness.sources.kinds import load_source

write, left = capturing._write, int(sys.argv[3])
def die(folder, names, *rest):
    global left
    write(folder, names, *rest)
    left -= 1
    if not left:
        (folder / "train-00009.npy.tmp").write_bytes(b"half a shard")
        os.kill(os.getpid(), signal.SIGKILL)
capturing._write = die
capturing.capture_windows(load_source(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def killed(source: Pretrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process has left behind that was killed after four windows."""
    out = place(tmp_path_factory.mktemp("killed"))
    process = subprocess.run([sys.executable, "-c", KILL, str(source.path), str(out), "4"])
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    return out.with_name(".activations.new")


def test_after_a_kill_only_what_is_missing_is_made_and_the_bits_are_the_same(
    source: Pretrained, whole: Path, killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place(tmp_path)
    begun = shutil.copytree(killed, out.with_name(".activations.new"))
    assert len(read_record(begun / "shards.json") or {}) == 8
    torn = begun / "train-00001.npy"  # as a power cut may leave it
    torn.write_bytes(torn.read_bytes()[:-1])
    made: list[int] = []
    window = WindowMaker.window

    def counted(maker: WindowMaker, split: Split, index: int) -> list[Tensor]:
        made.append(index)
        return window(maker, split, index)

    monkeypatch.setattr(WindowMaker, "window", counted)
    manifest = capture_windows(source, out)
    assert made == list(range(1, WINDOWS))
    assert manifest == ActivationStore.open(whole).manifest
    assert {p.name for p in out.glob("*.npy*")} == {p.name for p in whole.glob("*.npy")}
    for file in whole.glob("*.npy"):
        assert sha256_of([file]) == sha256_of([out / file.name])
    assert not list(out.parent.glob(".activations.*"))


def test_shards_of_another_source_with_the_same_windows_are_taken_over(
    source: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By links, as far as they are whole: one that is damaged, or shorter, is made."""
    first, second = (tmp_path / "data" / name / "activations" for name in ("first", "second"))
    manifest = capture_windows(source, first)
    damaged = first / "train-00003.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    made: list[tuple[Split, int]] = []
    window = WindowMaker.window

    def counted(maker: WindowMaker, split: Split, index: int) -> list[Tensor]:
        made.append((split, index))
        return window(maker, split, index)

    monkeypatch.setattr(WindowMaker, "window", counted)
    assert capture_windows(source, second) == manifest
    assert made == [("train", 3)]
    assert (first / "train-00000.npy").samefile(second / "train-00000.npy")
    longer = source.activations.model_copy(update={"tokens": 64 * WINDOWS + 64})
    made.clear()
    third = tmp_path / "data" / "third" / "activations"
    capture_windows(source.model_copy(update={"activations": longer}), third)
    assert made == [("train", 9), ("train", 10)]
    shutil.rmtree(second)
    ActivationStore.open(third).verify()


def test_what_was_begun_with_other_settings_is_not_gone_on_with(
    source: Pretrained, killed: Path, tmp_path: Path
) -> None:
    out = place(tmp_path)
    shutil.copytree(killed, out.with_name(".activations.new"))
    other = source.model_copy(update={"activations": source.activations.model_copy(update={"window": 128})})
    manifest = capture_windows(other, out)
    assert [shard["tokens"] for shard in manifest["shards"]["train"]] == [128, 128, 128, 128, 121]
    ActivationStore.open(out).verify()


@pytest.mark.parametrize("tokens", [150, 700])
def test_what_was_begun_for_other_numbers_of_tokens_is_gone_on_with(
    source: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    """A window that was the last one, and shorter, is made again; shards that are not asked for are not kept."""

    def captured(tokens: int, out: Path) -> dict[str, Any]:
        return capture_windows(
            source.model_copy(update={"activations": source.activations.model_copy(update={"tokens": tokens})}),
            out,
        )

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(capturing, "published", killed)
        patch.setattr(Path, "unlink", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            captured(300, place(tmp_path))
    out, whole = place(tmp_path), place(tmp_path / "whole")
    assert (out.with_name(".activations.new") / "shards.json").exists()
    assert captured(tokens, out) == captured(tokens, whole)
    assert {file.name for file in out.iterdir()} == {file.name for file in whole.iterdir()}
    ActivationStore.open(out).verify()


def test_a_disk_that_is_full_keeps_what_there_is(
    source: Pretrained, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, out = capturing._write, place(tmp_path)

    def full(folder: Path, names: list[str], *rest: object) -> None:
        if "train-00002.npy" in names:
            raise OSError(28, "No space left on device")
        write(folder, names, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(capturing, "_write", full)
    with pytest.raises(UserError, match=r"activations: the disk is full"):
        capture_windows(source, out)
    monkeypatch.undo()
    assert (out.with_name(".activations.new") / "train-00001.npy").exists()
    assert capture_windows(source, out) == ActivationStore.open(whole).manifest


def test_a_window_has_the_same_bits_in_any_order_and_from_another_process(source: Pretrained, whole: Path) -> None:
    store = ActivationStore.open(whole)
    assert store.targets is not None
    (whole.parent / "positions.jsonl").unlink()  # nothing is remembered
    maker = WindowMaker.open(whole, torch.device("cpu"))
    for index in (7, 2, WINDOWS - 1, 0, 2):
        stop = min(64 * (index + 1), store.tokens("train"))
        for rows, kept in zip(maker.window("train", index), (store, store.targets), strict=True):
            assert rows.dtype == torch.float16
            assert np.array_equal(rows, kept.read("train", 64 * index, stop))
    with pytest.raises(IndexError):
        maker.window("train", WINDOWS)


def test_a_stream_keeps_the_first_window_and_the_held_out_split(
    source: Pretrained, whole: Path, tmp_path: Path
) -> None:
    streamed = source.model_copy(update={"activations": source.activations.model_copy(update={"feed": "stream"})})
    out = place(tmp_path)
    manifest = capture_windows(streamed, out)
    stored = ActivationStore.open(whole).manifest
    assert {p.name for p in out.glob("*.npy")} == {
        f"{prefix}{name}.npy"
        for prefix in ("", "targets-")
        for name in ("train-00000", "held_out-00000", "held_out-00001")
    }
    assert (manifest["feed"], stored["feed"]) == ("stream", "stored")
    assert manifest["tokens"] == stored["tokens"]
    for key in ("mean", "scale", "window"):
        assert manifest[key] == stored[key]
    assert manifest["targets"]["mean"] == stored["targets"]["mean"]
    rows = WindowMaker.open(out, torch.device("cpu")).window("train", 5)
    assert np.array_equal(rows[0], ActivationStore.open(whole).read("train", 320, 384))
    assert streamed.disk_bytes == sum(file.stat().st_size - 128 for file in out.glob("*.npy"))


def test_a_model_or_text_that_has_changed_is_refused(tmp_path: Path) -> None:
    model, text = save_model("gpt2", tmp_path / "gpt2"), save_text(tmp_path / "text.jsonl")
    capture_windows(source_file(tmp_path, model, text, "transformer.h.1"), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    content = text.read_text()
    text.write_text(content.replace("word1 ", "word2 ", 1))
    with pytest.raises(UserError, match=r"3: text: expected the text that the activations were begun with"):
        WindowMaker.open(tmp_path / "out", torch.device("cpu"))
    text.write_text(content)
    WindowMaker.open(tmp_path / "out", torch.device("cpu"))
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(
        UserError, match=r"2: model\.name: expected the model that the activations were begun with"
    ):
        WindowMaker.open(tmp_path / "out", torch.device("cpu"))
    assert snapshot(tmp_path / "out") == before
