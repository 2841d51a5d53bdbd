"""Makes a corpus of docstrings, which every installation has: two splits and a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.activations.docstrings import docstrings_of, package_files
from harness.activations.documents import END_OF_TEXT, MANIFEST, TOKENIZER, Document, Split
from harness.activations.folders import replacing
from harness.files import write_json

if TYPE_CHECKING:
    from harness.sources.docstrings import Docstrings

ENCODED_AT_ONCE = 4096  # documents


def build_corpus(source: Docstrings, out: Path) -> dict[str, Any]:
    """Write `train.parquet`, `held_out.parquet`, `tokenizer.json` and `manifest.json` to the folder `out`.

    A document is one docstring, kept only at its first occurrence in the corpus. All documents of a module
    file are in the same split, since neighbours repeat each other's words. Returns the manifest. `out` is
    replaced as a whole, or left as it was.

    Raises UserError if a package is not installed, or the text is too short for the activations asked for.
    """
    with replacing(out, MANIFEST) as folder:
        documents, dropped = _documents(source)
        splits: dict[Split, list[Document]] = {"train": [], "held_out": []}
        for document in documents:
            splits[split_of(document.source, source.corpus.held_out)].append(document)
        tokenizer = train_tokenizer((d.text for d in splits["train"]), source.corpus.vocabulary)
        tokenizer.save(str(folder / TOKENIZER), pretty=False)
        counts = {split: _write_split(folder, split, splits[split], tokenizer) for split in splits}
        _check_size(source, {split: counts[split]["tokens"] for split in counts})
        manifest = {
            "splits": counts,
            **dropped,
            "vocabulary": tokenizer.get_vocab_size(),
            "packages": _versions(source.corpus.packages),
            "fingerprint": _fingerprint(splits, folder / TOKENIZER),
        }
        write_json(folder / MANIFEST, manifest, wait=False)
    return manifest


def split_of(file: str, held_out: float) -> Split:
    """The split of a module file: a function of its name alone, so that other files do not change it."""
    digest = hashlib.sha256(file.encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer with at most `vocabulary` tokens, `<|endoftext|>` among them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _documents(source: Docstrings) -> tuple[list[Document], dict[str, int]]:
    """The documents, and how many docstrings and files were left out."""
    files = _files(source)
    seen: set[str] = set()
    documents, duplicates, unparsable = [], 0, 0
    for (identity, _), docstrings in zip(files, docstrings_of([path for _, path in files]), strict=True):
        if docstrings is None:
            unparsable += 1
            continue
        new = list(_unseen(docstrings, seen))
        duplicates += len(docstrings) - len(new)
        documents += [Document(identity, text) for text in new]
    return documents, {"duplicates_dropped": duplicates, "unparsable_files": unparsable}


def _files(source: Docstrings) -> list[tuple[str, Path]]:
    """Files of all packages, sorted, so that the order in the source file does not matter."""
    files: dict[str, Path] = {}
    for index, name in enumerate(source.corpus.packages):
        found = package_files(name)
        if found is None:
            where = ("corpus", "packages", index)
            raise source.error(where, f"expected an installed package, {name!r} is not installed")
        files.update(found)
    return sorted(files.items())


def _unseen(docstrings: list[str], seen: set[str]) -> Iterator[str]:
    for text in docstrings:
        key = " ".join(text.split())
        if key not in seen:
            seen.add(key)
            yield text


def _write_split(folder: Path, split: Split, documents: list[Document], tokenizer: Tokenizer) -> dict[str, int]:
    columns = {"source": [d.source for d in documents], "text": [d.text for d in documents]}
    pl.DataFrame(columns, schema={"source": pl.String, "text": pl.String}).write_parquet(
        folder / f"{split}.parquet"
    )
    return {
        "files": len({d.source for d in documents}),
        "documents": len(documents),
        "characters": sum(len(d.text) for d in documents),
        "tokens": _count_tokens(tokenizer, columns["text"]),
    }


def _count_tokens(tokenizer: Tokenizer, texts: list[str]) -> int:
    """Tokens of the texts, the separators between them not counted."""
    tokenizer.encode_special_tokens = True  # a docstring may mention <|endoftext|> without ending there
    chunks = (texts[i : i + ENCODED_AT_ONCE] for i in range(0, len(texts), ENCODED_AT_ONCE))
    return sum(len(encoding) for chunk in chunks for encoding in tokenizer.encode_batch_fast(chunk))


def _check_size(source: Docstrings, tokens: dict[Split, int]) -> None:
    asked = {"train": "tokens", "held_out": "held_out_tokens"}
    for split, count in tokens.items():
        wanted = getattr(source.activations, asked[split])
        if count < wanted:
            message = f"expected at most {count:,}, the tokens of the {split} text, got {wanted:,}"
            raise source.error(("activations", asked[split]), message)


def _versions(packages: list[str]) -> dict[str, str]:
    """Version of the distribution that each import name comes from."""
    known = packages_distributions()
    return {name: version(known[name][0]) if name in known else "unknown" for name in sorted(packages)}


def _fingerprint(splits: dict[Split, list[Document]], tokenizer: Path) -> str:
    total = hashlib.sha256(tokenizer.read_bytes())
    for split, documents in splits.items():
        for document in documents:
            total.update("\0".join((split, *document, "")).encode())
    return total.hexdigest()
