"""Where a study's activations come from: text, the language model on it, and the place that is read.

One file under `studies/sources/`; its name is the name of the folder under `data/` that it fills.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.study.yaml_file import YamlFile, read_yaml

Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Corpus(Strict):
    """Text that every installation has: the docstrings of installed packages."""

    packages: Annotated[list[str], Field(min_length=1)]  # import names, as in `numpy`, `sklearn`
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of the documents
    vocabulary: Annotated[int, Field(ge=300)] = 4096  # of the byte-level BPE tokenizer


class LanguageModel(Strict):
    """A GPT-2-architecture model trained on the corpus."""

    layers: Positive
    width: Positive
    heads: Positive
    context: Annotated[int, Field(ge=8)]  # tokens of one sequence
    tokens: Positive  # trained on; the corpus is gone through again where it is shorter
    batch: Positive  # sequences a step
    lr: Annotated[float, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)] = 0


class Activations(Strict):
    """What is kept of the forward passes."""

    hook: str  # module path whose output is read, as in `transformer.h.2`
    tokens: Positive  # to train SAEs on
    held_out_tokens: Positive  # to compare them on
    dtype: Literal["float16", "float32"] = "float16"
    seed: Annotated[int, Field(ge=0)] = 0  # of the shuffle


class Source(Strict):
    """One activation source, from text to activations."""

    name: str
    path: Path
    corpus: Corpus
    language_model: LanguageModel
    activations: Activations


def load_source(path: Path) -> Source:
    """Read and validate a source file. Raises UserError naming file, key and what was expected."""
    file = read_yaml(path)
    name = file_name(file)
    source: Source = file.check(Source, {**file.mapping(), "name": name, "path": path})
    return source


def file_name(file: YamlFile) -> str:
    """The file's name without its ending, which names folders too. Raises UserError if it is unfit for that."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", file.path.stem):
        raise file.error((), "expected a file name of letters, digits, '-' and '_'")
    return file.path.stem


class SourceFolders:
    """Where one source's artefacts lie: `<data>/<source>/{corpus,language_model,activations}`."""

    def __init__(self, source: Source, data: Path = Path("data")) -> None:
        root = data / source.name
        self.corpus = root / "corpus"
        self.language_model = root / "language_model"
        self.activations = root / "activations"
