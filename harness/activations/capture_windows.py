"""Captures a pretrained model's activations, window by window: what was captured before a kill is not again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.activations.contexts import ContextReader
from harness.activations.documents import Split
from harness.activations.folders import full_disk_as_user_error, published, read_json, sha256_of
from harness.activations.held_out_text import HeldOutText, write_held_out_text
from harness.activations.pretrained_model import resolve_model
from harness.activations.random_model import random_model
from harness.activations.store import FORMAT, MANIFEST, fingerprint_of
from harness.activations.store_writer import ROWS_AT_ONCE, TARGETS, moments
from harness.activations.stream_file import STREAM, StreamFile
from harness.activations.text import local_files, resolve, text_fingerprint
from harness.activations.windows import WindowMaker, code_of_windows
from harness.errors import UserError
from harness.files import read_record, write_json
from harness.progress import track

if TYPE_CHECKING:
    from harness.sources.pretrained import Pretrained

SPLITS: tuple[Split, Split] = ("held_out", "train")  # the short one first: too little text is found early
LANGUAGE_MODEL = "language_model"  # beside the store, where its weights are random
SHARDS = "shards.json"  # those that are complete, while others are still captured


def capture_windows(source: Pretrained, out: Path) -> dict[str, Any]:
    """Fill the folder `out` with a pretrained model's activations, or with what is needed to stream them.

    A shard is a window. `feed: stored` keeps all of them; `feed: stream` all of the held-out split, and of the
    training split the first, whose mean and scale are the store's either way. They are collected in
    `.<out>.new`: after a kill the next call goes on with the first window that is not there, unless model, text or
    settings have changed. Shards that another source's store has already are taken over. `out` is replaced as a
    whole. Returns the manifest.

    Raises UserError if model, hook, text and settings do not fit each other, if a value is not finite, or if the
    disk is full.
    """
    spec = resolved(source, out.parent / LANGUAGE_MODEL)
    with full_disk_as_user_error(out):
        folder = _begun(out, spec)
        maker = WindowMaker(spec, torch.device("cuda" if torch.cuda.is_available() else "cpu"), out.parent)
        shards = _capture(source, maker, folder)
        manifest = {**_manifest(source, spec, folder, shards), "text": _write_text(maker, folder)}
        if source.activations.feed == "stream":
            manifest["model_bytes"] = maker.model.get_memory_footprint()
        write_json(folder / MANIFEST, manifest, wait=False)
        others = [file for file in folder.glob("*.npy") if file.name not in shards]
        for file in (folder / SHARDS, *others, *folder.glob("*.tmp")):
            file.unlink()
        published(folder, out, MANIFEST)
    return manifest


def resolved(source: Pretrained, random: Path) -> StreamFile:
    """What the source file asks for, with commits and fingerprints of what is there now.

    random: the folder for a model of random weights, where it asks for one.
    """
    asked = source.model_read if source.model.weights == "trained" else random_model(source, random)
    model, fingerprint = resolve_model(asked, source.error)
    text = resolve(source.text, source.error)
    return StreamFile(
        source=str(source.path),
        model=model,
        model_fingerprint=fingerprint,
        text=text,
        text_fingerprint=text_fingerprint(text),
        contexts=source.contexts,
        places=source.places,
        contexts_per_pass=source.contexts_per_pass,
        dtype=source.activations.dtype,
        code=code_of_windows(),
    )


def _begun(out: Path, spec: StreamFile) -> Path:
    """The folder to go on in: what another process has captured of the same, or a new one."""
    folder = out.with_name(f".{out.name}.new")
    try:
        if StreamFile.read(folder).fingerprint == spec.fingerprint:
            spec.write(folder)
            return folder
    except UserError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec.write(folder)
    return folder


def _capture(source: Pretrained, maker: WindowMaker, folder: Path) -> dict[str, dict[str, Any]]:
    """Make the shards that are missing. Returns what the manifest says about each, by its file's name."""
    spec = maker.spec
    wanted = [(split, index, _names(spec, split, index)) for split, index in _windows(source)]
    done = read_record(folder / SHARDS) or {}
    sizes = {name: _tokens(spec, split, index) for split, index, names in wanted for name in names}
    _share(spec, folder, sizes, done)
    missing = [
        (split, index, names)
        for split, index, names in wanted
        if not all(_is_there(folder / name, done, _tokens(spec, split, index)) for name in names)
    ]
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1) as writer:
        for split, index, names in track(missing, len(missing), f"capture windows of {source.name}"):
            windows = [rows.cpu().numpy() for rows in maker.window(split, index)]
            if writing is not None:
                writing.result()
            writing = writer.submit(_write, folder, names, windows, done)
        if writing is not None:
            writing.result()
    if source.activations.feed == "stream" and any(local_files(spec.text)):
        train = maker.reader("train")
        train.window(len(train) - 1)  # too short a text is found now, and where all windows start is noted
    return {name: done[name] for _, _, names in wanted for name in names}


def _share(spec: StreamFile, folder: Path, wanted: dict[str, int], done: dict[str, dict[str, Any]]) -> None:
    """Take over shards that stores of other sources have, by hard links, so that they are on disk once.

    wanted: tokens by the shard's name. Those sources count whose windows have the same bits, however many they
    keep. Shards are never written to, and a store that is deleted leaves the others their own.
    """
    others = (file.parent for file in sorted(folder.parents[1].glob(f"*/[!.]*/{STREAM}")))
    for store in (other for other in others if other.parent != folder.parent):
        try:
            if StreamFile.read(store).fingerprint != spec.fingerprint:
                continue
            about = read_json(store / MANIFEST, "an activation store")
            splits = [*about["shards"].values(), *about.get("targets", {}).get("shards", {}).values()]
            for shard in chain(*splits):
                name, there = shard["file"], folder / shard["file"]
                if wanted.get(name) != shard["tokens"] or _is_there(there, done, shard["tokens"]):
                    continue
                _link(store / name, there)
                if sha256_of([there]) == shard["sha256"]:  # else it is damaged, and made anew
                    done[name] = {"tokens": shard["tokens"], "sha256": shard["sha256"], "bytes": _size(there)}
        except (UserError, FileNotFoundError):  # it is being made anew, or was deleted meanwhile
            continue
    write_json(folder / SHARDS, done, wait=False)


def _link(shard: Path, there: Path) -> None:
    there.unlink(missing_ok=True)
    try:
        os.link(shard, there)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(shard, there)


def _is_there(shard: Path, done: dict[str, dict[str, Any]], tokens: int) -> bool:
    """Whether a shard is complete, and has as many tokens as are asked for now."""
    about = done.get(shard.name)
    return about is not None and about["tokens"] == tokens and _size(shard) == about["bytes"]


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _tokens(spec: StreamFile, split: Split, index: int) -> int:
    """Tokens of a window."""
    wanted = spec.contexts.tokens if split == "train" else spec.contexts.held_out_tokens
    return min(spec.contexts.window, wanted - index * spec.contexts.window)


def _windows(source: Pretrained) -> Iterator[tuple[Split, int]]:
    """Those that are kept on disk."""
    wanted = source.activations
    for split in SPLITS:
        tokens = wanted.tokens if split == "train" else wanted.held_out_tokens
        count = -(-tokens // wanted.window)
        yield from ((split, index) for index in range(1 if (split, wanted.feed) == ("train", "stream") else count))


def _names(spec: StreamFile, split: Split, index: int) -> list[str]:
    """The files of a window: of inputs, and of targets if there are any."""
    return [f"{prefix}{split}-{index:05d}.npy" for prefix in ("", TARGETS)[: len(spec.places)]]


def _write(folder: Path, names: list[str], windows: list[NDArray[Any]], done: dict[str, dict[str, Any]]) -> None:
    """Write the shards of a window, each whole or not at all."""
    for name, rows in zip(names, windows, strict=True):
        beside = folder / f"{name}.tmp"
        with beside.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        shard = beside.replace(folder / name)
        done[name] = {"tokens": len(rows), "sha256": sha256_of([shard]), "bytes": shard.stat().st_size}
    write_json(folder / SHARDS, done, wait=False)


def _manifest(
    source: Pretrained, spec: StreamFile, folder: Path, shards: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    stored, wanted = source.stored, source.activations
    inputs, *targets = (
        _measured(folder, prefix, place.width, wanted.dtype, shards)
        for prefix, place in zip(("", TARGETS), spec.places, strict=False)
    )
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "hook": stored.hook,
        "feed": wanted.feed,
        "window": wanted.window,
        "model": spec.model.name,
        "revision": spec.model.revision,
        "model_fingerprint": spec.model_fingerprint,
        "text_fingerprint": spec.text_fingerprint,
        "context": wanted.context,
        "pretrained": source.asked(),
        "dtype": wanted.dtype,
        "tokens": stored.tokens,
        **inputs,
        **({"targets": {"hook": stored.target_hook, **targets[0]}} if targets else {}),
        **({"stream": spec.fingerprint} if wanted.feed == "stream" else {}),
    }
    return {**manifest, "fingerprint": fingerprint_of(manifest)}


def _write_text(maker: WindowMaker, folder: Path) -> dict[str, Any]:
    """Keep held-out contexts with the activations, to measure on them what SAEs do to the language model."""
    spec = maker.spec
    all_at_once = spec.contexts.model_copy(update={"window": spec.contexts.held_out_tokens})
    contexts = ContextReader(spec.text, maker.tokenizer, all_at_once, "held_out", error=spec.error).window(0)
    places = {"reads": spec.places[0], "replaces": spec.places[-1]}
    return write_held_out_text(
        folder,
        HeldOutText(contexts.ids, contexts.kept, contexts.mask),
        model=spec.model.name,
        model_fingerprint=spec.model_fingerprint,
        parameters=maker.model.num_parameters(),
        vocabulary=len(maker.model.get_input_embeddings().weight),
        **{name: {"module": place.hook, "side": place.side} for name, place in places.items()},
    )


def _measured(
    folder: Path, prefix: str, width: int, dtype: str, shards: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What the manifest says about the shards of that prefix; mean and scale are those of the first window."""
    mine: dict[str, list[dict[str, Any]]] = {
        split: [
            {"file": name, "tokens": about["tokens"], "sha256": about["sha256"]}
            for name, about in shards.items()
            if name.startswith(f"{prefix}{split}-")
        ]
        for split in SPLITS
    }
    first = folder / mine["train"][0]["file"]
    return {"width": width, "shards": mine, **moments(partial(_blocks, first), width, dtype)}


def _blocks(shard: Path) -> Iterator[NDArray[np.float64]]:
    rows = np.load(shard, mmap_mode="r", allow_pickle=False)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE].astype(np.float64)
