"""What a source of activations is: a file that describes it, the folders that it fills, what its store holds.

Each kind of source is a subclass in a module of its own; `harness/sources/kinds.py` lists them. Whatever is slow
to import (numpy, torch, transformers) is imported inside the methods that need it, so that plans start at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from harness.errors import UserError
from harness.yaml_file import Location, Strict, read_yaml

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore
    from harness.sources.model_cost import ModelCost

FLOAT32 = 4  # bytes
ACTIVATIONS = "activations"  # the last step of every source: its activation store


class Made(NamedTuple):
    """What a step has to say when it is done: a line for people, and figures where the step has any."""

    summary: str
    metrics: dict[str, Any] | None = None


@dataclass(frozen=True)
class Step:
    """One thing that is made of a source: the folder `data/<source>/<name>`.

    make: fills that folder, as a whole (`harness.activations.folders.replacing`). It is called with
    `data/<source>`, where it also finds what the steps before it have made.
    has_metrics: whether it returns figures, which go to `results/<source>/<name>.json`.
    """

    name: str
    make: Callable[[Path], Made]
    has_metrics: bool = False


@dataclass(frozen=True)
class Stored:
    """What the activation store of a source holds, known before it is made.

    hook: where the activations are read, for people. width: dimensions of an activation. tokens: of the splits
    `train` and `held_out`. features: how many true features the store keeps; None where they are not known.
    target_hook, target_width: the same of what transcoders predict from the activations; None if the source is for
    SAEs. settings: what else the source file decides, as the store's manifest has it.
    """

    hook: str
    width: int
    tokens: dict[str, int]
    dtype: Literal["float16", "float32"]
    features: int | None = None
    target_hook: str | None = None
    target_width: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """The entries that the manifest of every store has; `targets` only where there are any."""
        targets = {"hook": self.target_hook, "width": self.target_width}
        return {
            "hook": self.hook,
            "width": self.width,
            "tokens": self.tokens,
            "dtype": self.dtype,
            "targets": targets,
        }


class Source(Strict, ABC):
    """One source file. A kind adds its own keys, and narrows `kind` to the name that selects it."""

    kind: str
    name: str = Field(exclude=True)  # of the file, and of the folder below data/
    path: Path = Field(exclude=True)

    @property
    @abstractmethod
    def stored(self) -> Stored:
        """What its activation store holds."""

    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """What has to be made, in this order; the last step is `activations`."""

    def model_cost(self) -> ModelCost | None:
        """What a pass of its language model costs; None where there is none. Raises UserError if not known."""
        return None

    @property
    def disk_bytes(self) -> int:
        """What its activation store takes on disk."""
        stored = self.stored
        numbers = sum(stored.tokens.values()) * (stored.width + (stored.target_width or 0))
        features = stored.tokens["held_out"] * (stored.features or 0) * FLOAT32
        return numbers * (FLOAT32 // 2 if stored.dtype == "float16" else FLOAT32) + features

    @property
    def disk_limit(self) -> int | None:
        """The most that it may take there, in bytes; None: no limit was given."""
        return None

    def check(self, store: ActivationStore) -> None:
        """Raise UserError if the store holds something else than the source file asks for now."""
        stored = self.stored
        # A store that was not made here, but written by other means, need not say what it was made with.
        asked = stored.manifest() | {name: v for name, v in stored.settings.items() if name in store.manifest}
        for key, expected, found in _differences(asked, store.manifest):
            message = f"{key}: expected {expected!r}, as {self.path} says, got {found!r}"
            again = f"harness prepare {self.path} --step {ACTIVATIONS}"
            raise UserError(f"{store.path}: {message}; make them again: {again}")

    def folder(self, data: Path) -> Path:
        """Where all that is made of this source lies."""
        return data / self.name

    def store(self, data: Path) -> Path:
        """The folder of its activation store."""
        return self.folder(data) / ACTIVATIONS

    def error(self, where: Location, message: str) -> UserError:
        """The error that points at the line of a key of the source file."""
        try:
            return read_yaml(self.path).error(where, message)
        except UserError:  # the file was changed or moved since it was read
            return UserError(f"{self.path}: {'.'.join(map(str, where))}: {message}")


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each entry that differs: its key, as in `tokens.train`, and both values. A missing entry counts as None."""
    for name, value in expected.items():
        other = found.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping | None):
            for key, *values in _differences(value, other or {}):
                yield f"{name}.{key}", *values
        elif other != value:
            yield name, value, other
