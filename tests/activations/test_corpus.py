"""The corpus: what is in it, how it is split, and what happens when it cannot be built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from harness.activations.corpus import build_corpus, split_of
from harness.activations.documents import read_documents
from harness.errors import UserError
from harness.sources.docstrings import Docstrings

from .conftest import Folders, MakeSource, snapshot


def test_no_file_and_no_text_is_in_both_splits(folders: Folders) -> None:
    train, held_out = (read_documents(folders.corpus, split) for split in ("train", "held_out"))
    assert train
    assert held_out
    assert not {d.source for d in train} & {d.source for d in held_out}
    assert not {d.text for d in train} & {d.text for d in held_out}


def test_a_second_build_is_the_same(source: Docstrings, folders: Folders, tmp_path: Path) -> None:
    build_corpus(source, tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(folders.corpus)


def test_the_order_of_the_packages_does_not_matter(make_source: MakeSource, tmp_path: Path) -> None:
    stats = [
        build_corpus(make_source(("[optuna]", order)), tmp_path / str(i))
        for i, order in enumerate(("[optuna, rich]", "[rich, optuna]"))
    ]
    assert stats[0] == stats[1]


def test_repeated_docstrings_are_dropped_and_broken_files_counted(
    make_source: MakeSource, install: Callable[..., Path], tmp_path: Path
) -> None:
    install(
        hx_more={"a.py": '"""Same  text."""', "b.py": '"""Same\ntext."""\nclass C:\n    "Other."', "c.py": "("}
    )
    alone = build_corpus(make_source(), tmp_path / "alone")
    more = build_corpus(make_source(("[optuna]", "[optuna, hx_more]")), tmp_path / "more")
    assert more["duplicates_dropped"] == alone["duplicates_dropped"] + 1
    assert more["unparsable_files"] == alone["unparsable_files"] + 1
    documents = [sum(m["splits"][s]["documents"] for s in ("train", "held_out")) for m in (alone, more)]
    assert documents[1] == documents[0] + 2
    assert more["packages"]["hx_more"] == "unknown"


def test_the_counts_are_those_of_the_files(folders: Folders) -> None:
    stats = json.loads((folders.corpus / "manifest.json").read_text())["splits"]["held_out"]
    texts = [d.text for d in read_documents(folders.corpus, "held_out")]
    tokenizer = Tokenizer.from_file(str(folders.corpus / "tokenizer.json"))
    assert stats["documents"] == len(texts)
    assert stats["characters"] == sum(map(len, texts))
    assert stats["tokens"] == sum(len(tokenizer.encode(text)) for text in texts)
    assert tokenizer.decode(tokenizer.encode(texts[0]).ids) == texts[0]


def test_about_the_share_that_was_asked_for_is_held_out() -> None:
    splits = [split_of(f"file{i}.py", 0.2) for i in range(5_000)]
    assert splits.count("held_out") == pytest.approx(1_000, abs=120)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[optuna]", "[optuna, no_such]"), r"tiny\.yaml:2: corpus\.packages\[1\]: .*'no_such' is not installed$"),
        (
            ("tokens: 6_000", "tokens: 9_000_000"),
            r":15: activations\.tokens: expected at most [\d,]+, .* got 9,000,000$",
        ),
        (("1_500", "9_000_000"), r":16: activations\.held_out_tokens: expected at most [\d,]+, .* got 9,000,000$"),
    ],
)
def test_errors_name_the_line_and_leave_the_old_corpus(
    make_source: MakeSource, folders: Folders, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    shutil.copytree(folders.corpus, tmp_path / "corpus")
    before = snapshot(tmp_path / "corpus")
    with pytest.raises(UserError, match=message):
        build_corpus(make_source(change), tmp_path / "corpus")
    assert snapshot(tmp_path / "corpus") == before
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]


def test_a_folder_of_something_else_is_not_overwritten(source: Docstrings, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"expected a folder with manifest\.json, an empty one, or none"):
        build_corpus(source, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_without_a_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a corpus, found no manifest\.json"):
        read_documents(tmp_path, "train")
