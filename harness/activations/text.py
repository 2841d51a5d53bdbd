"""The text of a source: documents of local files or of a dataset, read as a stream, in two splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.activations.text_dataset import DatasetDocuments, commit_of
from harness.activations.text_files import FileDocuments, find_files
from harness.activations.text_spec import Batch, Documents, Raise, TextSpec, key_error

if TYPE_CHECKING:
    from harness.activations.documents import Split


def resolve(text: TextSpec, error: Raise = key_error) -> TextSpec:
    """The same text, pinned: the files that there are now, or the commit that the dataset is at now.

    Raises UserError if no files match, if files are of several kinds or in both splits, or if there is no such
    dataset.
    """
    if text.dataset is not None:
        return text.model_copy(update={"revision": commit_of(text, error)})
    held_out = text.held_out
    files = find_files(text.files or [], ("text", "files"), error)
    if held_out.files is not None:
        where = ("text", "held_out", "files")
        others = find_files(held_out.files, where, error)
        if both := sorted(set(files) & set(others)):
            raise error(where, f"expected other files than those of text.files, {both[0]} is in both")
        held_out = held_out.model_copy(update={"files": others})
    _check_keys(text, Path(files[0]).suffix, error)
    return text.model_copy(update={"files": files, "held_out": held_out})


def _check_keys(text: TextSpec, kind: str, error: Raise) -> None:
    """Raise UserError for a key that says nothing about files of this kind."""
    if kind == ".txt" and text.column is not None:
        raise error(("text", "column"), "unknown for .txt files, only .parquet and .jsonl files have columns")
    if kind != ".txt" and text.sample_by is not None:
        raise error(("text", "sample_by"), f"unknown for {kind} files: a document is a row")


def text_fingerprint(text: TextSpec) -> str:
    """A sha256 over all that decides the documents of a resolved text: files' contents, or a dataset's commit.

    Reads the files as a whole, which takes about a second per GB.
    """
    files = local_files(text)
    if any(files):
        text = text.model_copy(update={"dataset": None})  # a folder may have another name
    said = text.model_dump(exclude={"files": True, "held_out": {"files"}})
    return hashlib.sha256(
        json.dumps([said, [[_sha256(path) for path in part] for part in files]]).encode()
    ).hexdigest()


def local_files(text: TextSpec) -> list[list[Path]]:
    """The files of a resolved text that are on this machine: trained on, and held out; none of a hub's."""
    if text.dataset is not None:
        folder = Path(text.dataset)
        return [[path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []]
    return [[Path(path) for path in part or []] for part in (text.files, text.held_out.files)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_documents(text: TextSpec, split: Split, error: Raise = key_error) -> Documents:
    """The documents of one split of a resolved text, in the order of the files or of the dataset."""
    held_out = text.held_out
    elsewhere = split == "held_out" and held_out.share is None
    documents: Documents
    if text.dataset is not None:
        documents = DatasetDocuments(text, (held_out if elsewhere else text).split or "train", error)
    else:
        documents = FileDocuments(text, (held_out if elsewhere else text).files or [], error)
    if held_out.share is None:
        return documents
    return _Share(documents, held_out.share, text.seed, split)


class _Share:
    """The documents of one split, where the held-out ones are a share of all: the others are None."""

    def __init__(self, documents: Documents, share: float, seed: int, split: Split) -> None:
        self._documents = documents
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._below = int(share * 2**64)
        self._held_out = split == "held_out"

    def read(self, position: Any) -> Iterator[Batch]:
        for batch in self._documents.read(position):
            yield Batch(batch.position, [self._mine(text) for text in batch.texts])

    def _mine(self, text: str | None) -> str | None:
        """By a hash of the text, so that the copies of a document are all in the same split."""
        if text is None:
            return None
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=self._seed).digest()
        return text if (int.from_bytes(digest, "big") < self._below) == self._held_out else None
