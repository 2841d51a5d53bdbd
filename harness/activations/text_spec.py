"""What a source file says about its text: where documents come from, and how they become contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import Field, ValidationInfo, field_validator

from harness.errors import UserError
from harness.yaml_file import Location, Strict

Files = str | Annotated[list[str], Field(min_length=1)]
SampleBy = Literal["document", "paragraph", "line"]
Positive = Annotated[int, Field(ge=1)]
Raise = Callable[[Location, str], UserError]  # makes the error that points at a key of the source file


class HeldOut(Strict):
    """Which documents are kept from training: exactly one of the three."""

    split: str | None = None  # of the same dataset
    files: Files | None = None  # other files than those trained on
    share: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the documents

    @field_validator("share")
    @classmethod
    def _one_way(cls, share: float | None, info: ValidationInfo) -> float | None:
        if [info.data.get("split"), info.data.get("files"), share].count(None) != 2:
            raise ValueError("exactly one of split, files and share")
        return share

    model_config = Strict.model_config | {"validate_default": True}


class TextSpec(Strict):
    """Where the text comes from: a dataset of a hub (or a local folder of one), or local files."""

    dataset: str | None = None  # as `datasets.load_dataset` takes it
    config: str | None = None
    revision: str | None = None  # a branch, tag or commit; `resolve` puts the commit here
    split: str | None = None  # of the dataset; left out: train
    files: Files | None = None  # *.parquet, *.jsonl or *.txt: paths or globs
    column: str | None = None  # of parquet, JSON Lines and datasets; left out: text
    sample_by: SampleBy | None = None  # what one document of a text file is; left out: document, the whole file
    held_out: HeldOut
    seed: Annotated[int, Field(ge=0)] = 0  # which documents a held-out share of them is

    @field_validator("files")
    @classmethod
    def _one_kind(cls, files: Files | None, info: ValidationInfo) -> Files | None:
        if (files is None) == (info.data.get("dataset") is None):
            raise ValueError("either a dataset or files")
        if files is not None and (others := [k for k in ("config", "revision", "split") if info.data.get(k)]):
            raise ValueError(f"no files beside {others[0]}, which only datasets have")
        return files

    @field_validator("sample_by")
    @classmethod
    def _of_files(cls, sample_by: SampleBy | None, info: ValidationInfo) -> SampleBy | None:
        if sample_by is not None and info.data.get("dataset") is not None:
            raise ValueError("none: a document of a dataset is a row")
        return sample_by

    @field_validator("seed")
    @classmethod
    def _of_a_share(cls, seed: int, info: ValidationInfo) -> int:
        held_out = info.data.get("held_out")
        if seed and held_out is not None and held_out.share is None:
            raise ValueError("none: only a held-out share depends on it")
        return seed

    @field_validator("held_out")
    @classmethod
    def _same_kind(cls, held_out: HeldOut, info: ValidationInfo) -> HeldOut:
        if held_out.split is not None and info.data.get("dataset") is None:
            raise ValueError("files or a share: only datasets have splits")
        if held_out.split is not None and held_out.split == (info.data.get("split") or "train"):
            raise ValueError("another split than the one trained on")
        if held_out.files is not None and info.data.get("files") is None:
            raise ValueError("a split or a share: the text is a dataset")
        return held_out

    model_config = Strict.model_config | {"validate_default": True}


class ContextSettings(Strict):
    """How documents become contexts, and which of their positions are kept. Keys of a source file."""

    context: Annotated[int, Field(ge=2)]  # tokens of one
    pack: bool = True  # documents one after another with a separator; false: one document per context
    bos: Literal["auto", "every_context", "never"] = "auto"  # auto: in every context if the tokenizer adds one
    padding: Literal["right", "left"] = "right"  # the side, of a context that a document does not fill
    skip_special: bool = True  # whether positions of special tokens are left out; padding always is
    skip_first: Annotated[int, Field(ge=0)] = 0  # first positions of every context that are left out
    tokens: Positive  # kept for training
    held_out_tokens: Positive
    window: Positive = 262_144  # kept tokens


class Batch(NamedTuple):
    """Some documents, None where there is no text, and the position from which on they are read again."""

    position: Any
    texts: list[str | None]


class Documents(Protocol):
    """A stream of documents in a fixed order."""

    def read(self, position: Any) -> Iterator[Batch]:
        """The documents from a batch's `position` on, which is JSON; None is the beginning."""
        ...


def key_error(where: Location, message: str) -> UserError:
    """An error that names the key, for whoever has no source file at hand."""
    return UserError(f"{'.'.join(map(str, where))}: {message}")
