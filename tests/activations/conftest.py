"""One tiny source, built once: corpus, language model and activations in a few seconds."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from harness.activations.capture import capture_activations
from harness.activations.corpus import build_corpus
from harness.activations.language_model import train_language_model
from harness.sources.docstrings import Docstrings
from harness.sources.kinds import load_source

TINY = """\
corpus:
  packages: [optuna]
  held_out: 0.1
  vocabulary: 400
language_model:
  layers: 2
  width: 16
  heads: 2
  context: 32
  tokens: 20_000
  batch: 16
  lr: 1e-2
activations:
  hook: transformer.h.0
  tokens: 6_000
  held_out_tokens: 1_500
kind: docstrings
"""

MakeSource = Callable[..., Docstrings]


class Folders(NamedTuple):
    corpus: Path
    language_model: Path
    activations: Path


@pytest.fixture(scope="session")
def make_source(tmp_path_factory: pytest.TempPathFactory) -> MakeSource:
    """Write the tiny source with some text of it replaced, and load it."""

    def make(*changes: tuple[str, str]) -> Docstrings:
        text = TINY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path_factory.mktemp("source") / "tiny.yaml"
        path.write_text(text)
        return cast(Docstrings, load_source(path))

    return make


@pytest.fixture(scope="session")
def source(make_source: MakeSource) -> Docstrings:
    return make_source()


@pytest.fixture(scope="session")
def folders(source: Docstrings, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The tiny source, built; tests only read it."""
    root = tmp_path_factory.mktemp("data")
    folders = Folders(*(root / step.name for step in source.steps()))
    build_corpus(source, folders.corpus)
    train_language_model(source, folders.corpus, folders.language_model)
    capture_activations(source, folders.corpus, folders.language_model, folders.activations)
    return folders


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put packages where Python finds them: `install(pkg={"__init__.py": "..."})`."""
    root = tmp_path / "site"
    monkeypatch.syspath_prepend(str(root))

    def install(**packages: dict[str, str]) -> Path:
        for name, files in packages.items():
            for file, text in files.items():
                path = root / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(textwrap.dedent(text))
        return root

    return install


def snapshot(folder: Path) -> dict[str, Any]:
    """Names and contents of all files of a folder."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
