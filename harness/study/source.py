"""Where a study's activations come from: a language model on text, or features that are made up and known.

One file under `studies/sources/`; its name is the name of the folder under `data/` that it fills.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from harness.errors import UserError
from harness.study.memory import KnownFeatures
from harness.yaml_file import Location, Strict, YamlFile, file_name, read_yaml

Positive = Annotated[int, Field(ge=1)]


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


class TextSource(Strict):
    """From text to activations, by way of a language model."""

    name: str
    path: Path
    corpus: Corpus
    language_model: LanguageModel
    activations: Activations

    @property
    def width(self) -> int:
        """Dimensions of an activation."""
        return self.language_model.width

    @property
    def hook(self) -> str:
        """What an activation store of this source says about where its activations were read."""
        return self.activations.hook

    @property
    def tokens(self) -> dict[str, int]:
        """Activations of each split."""
        return {"train": self.activations.tokens, "held_out": self.activations.held_out_tokens}

    @property
    def known_features(self) -> None:
        """Nobody knows those of a language model."""


MAX_RATE = 0.5  # the largest share of tokens that a feature fires on
OF_PARENT = 0.5  # the largest share of its parent's tokens that a child fires on
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Synthetic(Strict):
    """Activations with known features; `harness/activations/features.py` and `synthetic.py` say the law."""

    width: Positive  # dimensions of an activation
    features: Positive  # may exceed the width: superposition
    tokens: Positive  # to train SAEs on
    held_out_tokens: Positive  # to compare them on; their true features are kept
    hierarchy: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of features that fire only if their parent does
    active: Annotated[float, Field(ge=0.01)]  # mean number of features that fire on a token
    zipf: Annotated[float, Field(ge=0, le=10)] = 1.0  # rates fall as rank^-zipf; 0: all features equally often
    correlation: Annotated[float, Field(ge=0, le=1)] = 0.0  # of the normal variables behind one group's firing
    groups: Positive = 1  # sets of features that fire together
    nonlinearity: Strength = 0.0  # rms of what is no linear sum of features, relative to the sum; 0: all linear
    noise: Strength = 0.0  # std of Gaussian noise, relative to the rms of the sum
    dtype: Literal["float16", "float32"] = "float16"
    seed: Annotated[int, Field(ge=0)] = 0  # of everything

    @field_validator("active")
    @classmethod
    def _can_be_reached(cls, active: float, info: ValidationInfo) -> float:
        if {"features", "hierarchy"} <= info.data.keys():
            most = MAX_RATE * info.data["features"] * (1 - (1 - OF_PARENT) * info.data["hierarchy"])
            if active > most:
                raise ValueError(f"at most {most:g} (a feature fires on at most {MAX_RATE:.0%} of the tokens)")
        return active


class SyntheticSource(Strict):
    """Activations of no model."""

    name: str
    path: Path
    synthetic: Synthetic

    @property
    def width(self) -> int:
        """Dimensions of an activation."""
        return self.synthetic.width

    @property
    def hook(self) -> str:
        """What an activation store of this source says about where its activations were read."""
        return "synthetic"

    @property
    def tokens(self) -> dict[str, int]:
        """Activations of each split."""
        return {"train": self.synthetic.tokens, "held_out": self.synthetic.held_out_tokens}

    @property
    def known_features(self) -> KnownFeatures:
        """What an SAE's latents are compared with."""
        return KnownFeatures(self.synthetic.held_out_tokens, self.synthetic.features)


Source = TextSource | SyntheticSource
TEXT_KEYS = {"corpus", "language_model", "activations"}


def load_source(path: Path) -> Source:
    """Read and validate a source file. Raises UserError naming file, key and what was expected."""
    file = read_yaml(path)
    if given := sorted({"name", "path"} & file.mapping().keys()):
        raise file.error((given[0],), "unknown key; a source is named by its file")
    source: Source = file.check(_kind(file), {**file.mapping(), "name": file_name(file), "path": path})
    return source


def source_error(source: Source, where: Location, message: str) -> UserError:
    """The error that points at the line of a key of the source file."""
    try:
        return read_yaml(source.path).error(where, message)
    except UserError:  # the file was changed or moved since it was read
        return UserError(f"{source.path}: {'.'.join(map(str, where))}: {message}")


def _kind(file: YamlFile) -> type[Source]:
    """Which of the two the file's keys say. Raises UserError if they say both, or neither."""
    keys = file.mapping().keys()
    if "synthetic" not in keys and not TEXT_KEYS & keys:
        raise file.error((), "expected either 'corpus', 'language_model' and 'activations', or 'synthetic'")
    if "synthetic" in keys and (others := sorted(TEXT_KEYS & keys)):
        raise file.error(("synthetic",), f"expected this key alone, got {', '.join(map(repr, others))} too")
    return SyntheticSource if "synthetic" in keys else TextSource


class SourceFolders:
    """Where one source's artefacts lie: `<data>/<source>/{corpus,language_model,activations}`.

    A synthetic source fills the last one only.
    """

    def __init__(self, source: Source, data: Path = Path("data")) -> None:
        root = data / source.name
        self.corpus = root / "corpus"
        self.language_model = root / "language_model"
        self.activations = root / "activations"
