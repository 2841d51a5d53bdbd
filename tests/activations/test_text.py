"""Documents of files and datasets: all of them, in order, from any batch on; splits; mistakes in one line."""

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.activations import text_dataset, text_files
from harness.activations.text import open_documents, resolve, text_fingerprint
from harness.activations.text_spec import HeldOut, TextSpec
from harness.errors import UserError
from tests.activations.hub_server import COMMIT, serving
from tests.activations.texts import json_lines, spec

TEXTS = [None if n % 7 == 3 else "" if n % 7 == 4 else f"document {n}, é\nsecond line" for n in range(100)]


def parquet(path: Path, texts, column="text", rows=9):
    pq.write_table(pa.table({"id": range(len(texts)), column: texts}), path, row_group_size=rows)
    return str(path)


def write(kind, folder: Path, texts):
    """The texts in two files of a kind, or in two files of a dataset."""
    for name, part in (("a", texts[:37]), ("b", texts[37:])):
        {"parquet": parquet, "jsonl": json_lines}[kind](folder / f"{name}.{kind}", part)
    return str(folder / f"*.{kind}")


def read(text, split="train", position=None):
    return [t for batch in open_documents(text, split).read(position) for t in batch.texts]


@pytest.fixture(params=["parquet", "jsonl", "dataset"])
def text(request, tmp_path, monkeypatch):
    """The same texts as files of each kind, and as a dataset in a folder, in batches of eight."""
    for module in (text_files, text_dataset):
        monkeypatch.setattr(module, "DOCUMENTS", 8)
    if request.param != "dataset":
        return spec(write(request.param, tmp_path, TEXTS))
    write("parquet", tmp_path, TEXTS)
    return resolve(TextSpec(dataset=str(tmp_path), held_out=HeldOut(share=1e-9)))


def test_documents_come_in_order_and_again_from_every_batch_on(text):
    assert read(text) == TEXTS
    done = 0
    for batch in list(open_documents(text, "train").read(None)):
        position = json.loads(json.dumps(batch.position))
        assert read(text, position=position) == TEXTS[done:]
        done += len(batch.texts)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_all_of_arrows_types_of_text_are_read(tmp_path, kind):
    texts = [None, "", "short", "é" * 100]
    assert read(spec(parquet(tmp_path / "a.parquet", pa.array(texts, kind)))) == texts


def test_a_share_of_the_documents_is_held_out(text):
    text = text.model_copy(update={"held_out": HeldOut(share=0.3)})
    train, held_out = read(text), read(text, "held_out")
    assert [a if b is None else b for a, b in zip(train, held_out, strict=True)] == TEXTS
    assert all(a is None or b is None for a, b in zip(train, held_out, strict=True))
    other = text.model_copy(update={"seed": 1})
    assert read(other, "held_out") != held_out


@given(st.lists(st.sampled_from([f"text {n}" for n in range(9)]), max_size=40), st.floats(0.05, 0.95))
def test_copies_of_a_document_are_in_one_split(tmp_path_factory, texts, share):
    files = json_lines(tmp_path_factory.getbasetemp() / "copies.jsonl", texts)
    text = spec(files, held_out=HeldOut(share=share))
    assert not (set(read(text)) - {None}) & (set(read(text, "held_out")) - {None})


def test_half_a_character_of_json_lines_becomes_text_that_a_tokenizer_takes(tmp_path):
    assert read(spec(json_lines(tmp_path / "a.jsonl", ["an emoji \ud83d", "whole \U0001f600"]))) == [
        "an emoji ?",
        "whole \U0001f600",
    ]


def test_about_the_share_is_held_out(tmp_path):
    text = spec(json_lines(tmp_path / "a.jsonl", [str(n) for n in range(5000)]), held_out=HeldOut(share=0.2))
    assert 900 < sum(t is not None for t in read(text, "held_out")) < 1100


def test_other_files_or_another_split_are_held_out(tmp_path):
    json_lines(tmp_path / "train.jsonl", ["a", "b"])
    json_lines(tmp_path / "validation.jsonl", ["c"])
    files = spec(str(tmp_path / "t*.jsonl"), held_out=HeldOut(files=str(tmp_path / "v*.jsonl")))
    dataset = resolve(TextSpec(dataset=str(tmp_path), held_out=HeldOut(split="validation")))
    for text in (files, dataset):
        assert read(text) == ["a", "b"]
        assert read(text, "held_out") == ["c"]


@pytest.mark.parametrize(
    ("sample_by", "expected"),
    [
        (None, ["one\ntwo\n\n\nthree\r\n", "four"]),
        ("paragraph", ["one\ntwo", "\n\n", "three", "four"]),
        ("line", ["one", "two", "", "", "three", "four"]),
    ],
)
def test_documents_of_text_files(tmp_path, sample_by, expected):
    (tmp_path / "a.txt").write_bytes("\ufeffone\ntwo\n\n\nthree\r\n".encode())
    (tmp_path / "b.txt").write_text("four")
    found = read(spec(str(tmp_path / "*.txt"), sample_by=sample_by))
    assert [t for t in found if t.strip()] == [t for t in expected if t.strip()]


def test_what_files_there_are_is_said_once_and_for_all(tmp_path):
    write("jsonl", tmp_path, TEXTS)
    text = spec(str(tmp_path / "**" / "*.jsonl"))
    assert text.files == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    before = text_fingerprint(text)
    json_lines(tmp_path / "c.jsonl", ["more"])
    assert read(text) == TEXTS
    assert text_fingerprint(text) == before
    assert TextSpec.model_validate(json.loads(text.model_dump_json())) == text


@pytest.mark.parametrize("change", ["content", "column", "held_out", "seed", "order"])
def test_the_fingerprint_holds_what_decides_the_documents(tmp_path, change):
    write("jsonl", tmp_path, TEXTS)
    text = spec(str(tmp_path / "*.jsonl"))
    before = text_fingerprint(text)
    if change == "content":
        json_lines(tmp_path / "a.jsonl", TEXTS[:36])
    changes = {
        "column": {"column": "id"},
        "held_out": {"held_out": HeldOut(share=0.5)},
        "seed": {"seed": 1},
        "order": {"files": text.files[::-1]},
    }
    assert text_fingerprint(text.model_copy(update=changes.get(change, {}))) != before


def test_the_fingerprint_of_a_folder_is_of_its_files(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    json_lines(folder / "train.jsonl", ["a"])
    text = TextSpec(dataset=str(folder), held_out=HeldOut(share=0.5))
    before = text_fingerprint(text)
    folder.rename(tmp_path / "moved")
    assert text_fingerprint(text.model_copy(update={"dataset": str(tmp_path / "moved")})) == before
    json_lines(tmp_path / "moved" / "train.jsonl", ["b"])
    assert text_fingerprint(text.model_copy(update={"dataset": str(tmp_path / "moved")})) != before


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_the_text_is_never_held_as_a_whole(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(text_files, "BYTES", 100_000)
    path = tmp_path / f"long.{kind}"
    lines = ["word " * 200] * 5000
    if kind == "jsonl":
        json_lines(path, lines)
    else:
        path.write_text("\n".join(lines))
    text = spec(str(path), sample_by="line" if kind == "txt" else None)
    tracemalloc.start()
    count = sum(len(batch.texts) for batch in open_documents(text, "train").read(None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < path.stat().st_size / 8


def error_of(**keys):
    """The line that a text of these keys ends with, when it is resolved or read."""
    with pytest.raises(UserError) as failure:
        read(resolve(TextSpec(**{"held_out": HeldOut(share=1e-9), **keys})))
    line = str(failure.value)
    assert "\n" not in line
    return line


def test_mistakes_get_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    json_lines(Path("a.jsonl"), ["x"])
    parquet(Path("a.parquet"), ["x"])
    Path("a.txt").write_text("x")
    assert error_of(files="*.csv") == "text.files: expected files, none match '*.csv'"
    Path("texts").mkdir()
    assert error_of(files="texts").endswith("none match 'texts': a folder, whose files are texts/*")
    assert error_of(files=["*.parquet", "b*.parquet"]) == "text.files: expected files, none match 'b*.parquet'"
    assert error_of(files="a.*") == "text.files: expected files of one kind, got .jsonl and .parquet and .txt"
    Path("b.jsonl.gz").write_bytes(gzip.compress(b""))
    assert "expected files that end in .parquet, .jsonl, .txt, got b.jsonl.gz" in error_of(files="b*")
    both = error_of(files="*.jsonl", held_out=HeldOut(files=["a.jsonl"]))
    assert both == "text.held_out.files: expected other files than those of text.files, a.jsonl is in both"
    for kind in ("jsonl", "parquet"):
        near = f"text.column: a.{kind}: expected a column of the text, there is none 'txt'; did you mean 'text'?"
        assert error_of(files=f"a.{kind}", column="txt") == near
    assert "expected a column of text, 'id' is of int64" in error_of(files="a.parquet", column="id")
    assert error_of(files="a.jsonl", column="id").endswith("a.jsonl: byte 0: expected text or null, got 0")
    assert error_of(files="a.txt", column="text").startswith("text.column: unknown for .txt files")
    assert error_of(files="a.jsonl", sample_by="line").startswith("text.sample_by: unknown for .jsonl files")
    Path("bad.jsonl").write_text('{"text": "x"}\n[1]\n')
    assert error_of(files="bad.jsonl") == "bad.jsonl: byte 14: expected a line with one JSON object"
    parquet(Path("bytes.parquet"), pa.array([b"x"] * 12 + [b"\xff"], pa.binary()).view(pa.string()))
    assert error_of(files="bytes.parquet") == "bytes.parquet: rows 0 to 12: expected UTF-8 text in all of them"
    Path("bad.parquet").write_text("no parquet")
    assert error_of(files="bad.parquet").startswith("bad.parquet: not readable as parquet: ")
    Path("bad.txt").write_bytes(b"\xff\xfe")
    assert error_of(files="bad.txt") == "bad.txt: byte 0: expected UTF-8 text"
    monkeypatch.setattr(text_files, "LONGEST", 10)
    Path("long.txt").write_text("0123456789\n" * 3)
    assert error_of(files="long.txt").startswith(
        "text.sample_by: long.txt: expected line or paragraph: a document"
    )


def test_mistakes_in_a_dataset_get_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    json_lines(Path("set/train.jsonl"), ["x"])
    assert error_of(dataset="set", column="txt").endswith("there is none 'txt'; did you mean 'text'?")
    assert "expected a column of text, 'id' has int" in error_of(dataset="set", column="id")
    assert error_of(dataset="set", split="test").startswith("text.dataset: 'set', split 'test': ")
    assert error_of(dataset="set", revision="v1") == "text.revision: expected none: set is a folder here"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "either a dataset or files"),
        ({"dataset": "a", "files": "b.txt"}, "either a dataset or files"),
        ({"files": "b.txt", "revision": "main"}, "no files beside revision"),
        ({"files": "b.txt", "held_out": {"split": "validation"}}, "only datasets have splits"),
        ({"dataset": "a", "held_out": {"split": "train"}}, "another split than the one trained on"),
        ({"dataset": "a", "held_out": {"files": "b.txt"}}, "the text is a dataset"),
        ({"dataset": "a", "sample_by": "line"}, "a document of a dataset is a row"),
        ({"dataset": "a", "held_out": {"split": "test"}, "seed": 1}, "only a held-out share depends on it"),
        ({"dataset": "a", "held_out": {}}, "exactly one of split, files and share"),
        ({"dataset": "a", "held_out": {"split": "test", "share": 0.1}}, "exactly one of split, files and share"),
    ],
)
def test_keys_that_do_not_go_together(keys, message):
    with pytest.raises(ValidationError, match=message):
        TextSpec.model_validate({"held_out": {"share": 0.1}, **keys})


ON_THE_HUB = """
import json
from harness.activations.text import open_documents, resolve
from harness.activations.text_spec import HeldOut, TextSpec

held_out = HeldOut(split="validation")
text = resolve(TextSpec(dataset="own/er", revision="main", held_out=held_out))
batches = list(open_documents(text, "train").read(None))
again = list(open_documents(text, "train").read(json.loads(json.dumps(batches[1].position))))
errors = []
for keys in ({"revision": "v9"}, {"dataset": "no/body"}, {"config": "en"}):
    try:
        wrong = TextSpec(**{"dataset": "own/er", "held_out": held_out, **keys})
        list(open_documents(resolve(wrong), "train").read(None))
    except Exception as failure:
        errors.append(f"{type(failure).__name__}: {failure}")
held_out = [t for batch in open_documents(text, "held_out").read(None) for t in batch.texts]
print(json.dumps([text.revision, [b.texts for b in batches], [b.texts for b in again], held_out, errors]))
"""


@pytest.mark.chaos
def test_a_dataset_is_streamed_from_a_hub(tmp_path):
    parts = {"train": [f"document {n}" for n in range(2500)], "validation": ["a", "b"]}
    files = {}
    for split, texts in parts.items():
        json_lines(tmp_path / "part.jsonl", texts)
        files[f"data/{split}-0.jsonl"] = (tmp_path / "part.jsonl").read_bytes()
    with serving("own/er", files) as endpoint:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "home"),
        }
        run = subprocess.run([sys.executable, "-c", ON_THE_HUB], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    revision, batches, again, held_out, errors = json.loads(run.stdout)
    assert revision == COMMIT
    assert [t for texts in batches for t in texts] == parts["train"]
    assert again == batches[1:]
    assert held_out == parts["validation"]
    assert errors == [
        "UserError: text.revision: no branch, tag or commit 'v9' of the dataset 'own/er'",
        "UserError: text.dataset: no dataset 'no/body' at the hub that this account can read, "
        "and no such folder here",
        "UserError: text.dataset: 'own/er', split 'train': BuilderConfig 'en' not found. Available: ['default']",
    ]
