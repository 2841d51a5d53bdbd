"""Documents of a dataset of a hub, or of a local folder that `datasets` reads in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.activations.text_spec import Batch, Raise, TextSpec
from harness.errors import UserError
from harness.yaml_file import near

DOCUMENTS = 1000  # of a batch, at most
CHARACTERS = 4_000_000  # of a batch, about


def commit_of(text: TextSpec, error: Raise) -> str | None:
    """The commit that the text's revision is now; None for a local folder."""
    assert text.dataset is not None
    if Path(text.dataset).is_dir():
        if text.revision is not None:
            raise error(("text", "revision"), f"expected none: {text.dataset} is a folder here")
        return None
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    here = ("text", "dataset")
    try:
        return HfApi().dataset_info(text.dataset, revision=text.revision).sha
    except RevisionNotFoundError:
        message = f"no branch, tag or commit {text.revision!r} of the dataset {text.dataset!r}"
        raise error(("text", "revision"), message) from None
    except GatedRepoError:
        message = f"the hub lets only some accounts read {text.dataset!r}; one of them has to be logged in"
        raise error(here, message) from None
    except RepositoryNotFoundError:
        message = f"no dataset {text.dataset!r} at the hub that this account can read, and no such folder here"
        raise error(here, message) from None
    except Exception as failure:  # of the network, or of a malformed name
        message = f"no folder {text.dataset!r} here, and the hub cannot be asked: {_reason(failure)}"
        raise error(here, message) from None


class DatasetDocuments:
    """Documents of one split of a dataset, streamed. A position is the state of the `datasets` stream."""

    def __init__(self, text: TextSpec, split: str, error: Raise) -> None:
        self._text = text
        self._column = text.column or "text"
        self._split = split
        self._error = error

    def read(self, position: Any) -> Iterator[Batch]:
        stream = self._open()
        if position is not None:
            stream.load_state_dict(position)
        texts: list[str | None] = []
        size = 0
        for row in self._rows(stream):
            text = row[self._column]
            if not isinstance(text, str | None):
                message = f"expected a column of text, {self._column!r} has {type(text).__name__}"
                raise self._error(("text", "column"), message)
            texts.append(text)
            size += 0 if text is None else len(text)
            if len(texts) == DOCUMENTS or size >= CHARACTERS:
                yield Batch(position, texts)
                position, texts, size = stream.state_dict(), [], 0
        if texts:
            yield Batch(position, texts)

    def _rows(self, stream: Any) -> Iterator[Any]:
        try:
            yield from stream
        except Exception as failure:  # of the network, or of a damaged file
            raise self._unreadable(failure) from None

    def _unreadable(self, failure: Exception) -> UserError:
        message = f"{self._text.dataset!r}, split {self._split!r}: {_reason(failure)}"
        return self._error(("text", "dataset"), message)

    def _open(self) -> Any:
        from datasets import load_dataset

        text, column = self._text, self._column
        try:
            stream = load_dataset(
                text.dataset, text.config, revision=text.revision, split=self._split, streaming=True
            )
            names = stream.column_names or list(next(iter(stream)))
        except Exception as failure:  # unknown configuration or split, files that cannot be read, the network
            raise self._unreadable(failure) from None
        if column not in names:
            message = f"expected a column of {text.dataset!r}, there is none {column!r}{near(column, names)}"
            raise self._error(("text", "column"), message)
        return stream.select_columns([column])


def _reason(failure: Exception) -> str:
    return next(iter(str(failure).strip().splitlines()), type(failure).__name__)
