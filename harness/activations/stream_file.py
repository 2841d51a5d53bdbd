"""`stream.json`, in a store's folder: all that decides the activations of a pretrained model, resolved."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.activations.text_spec import ContextSettings, TextSpec
from harness.errors import UserError
from harness.files import write_json
from harness.yaml_file import Location, Strict, read_yaml

STREAM = "stream.json"
# These say where things are, on what they run, or how many are wanted; fingerprints stand for what they are.
NO_BITS: dict[str, Any] = {
    "source": True,
    "model": {"name", "revision", "device_map"},
    "text": True,
    "contexts": {"tokens", "held_out_tokens"},
}


class ModelSpec(Strict):
    """A causal language model of `transformers`: weights in safetensors, no code of its own."""

    name: str  # a folder, from the working directory, or a repository on the hub
    revision: str | None = None  # of the repository; the commit that it stands for is recorded
    dtype: Literal["float32", "float16", "bfloat16", "auto"] = "float32"  # auto: that of the checkpoint
    device_map: str | None = None  # as `transformers` takes it; left out: the worker's device


class ReadAt(Strict):
    """Where in the model activations are read: a module's path, a side of it, and the dimensions there."""

    hook: str
    side: Literal["input", "output"]
    width: int


class StreamFile(Strict):
    """What `WindowMaker` needs to make any window of a source.

    source: its file, for messages. model, text: with commits in the place of revisions. places: the input's, then
    the target's if there is one. contexts_per_pass: of the language model; it decides bits, since rounding can
    depend on the shape of a product.
    """

    source: str
    model: ModelSpec
    model_fingerprint: str
    text: TextSpec
    text_fingerprint: str
    contexts: ContextSettings
    places: list[ReadAt]
    contexts_per_pass: int
    dtype: Literal["float16", "float32"]
    code: str  # fingerprint of what makes windows

    @classmethod
    def read(cls, store: Path) -> StreamFile:
        """The one of a store's folder. Raises UserError if there is none, or it is damaged."""
        file = store / STREAM
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as failure:
            reason = failure.strerror if isinstance(failure, OSError) else str(failure).splitlines()[0]
            raise UserError(f"{file}: expected what the activations are made of: {reason}") from None

    def write(self, store: Path) -> None:
        """Write it into a store's folder."""
        write_json(store / STREAM, self.model_dump(mode="json"), wait=False)

    @property
    def fingerprint(self) -> str:
        """sha256 of what decides the bits of a window, wherever model and text lie."""
        decisive: dict[str, Any] = self.model_dump(mode="json", exclude=NO_BITS)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def error(self, where: Location, message: str) -> UserError:
        """The error that points at a key of the source file."""
        try:
            return read_yaml(Path(self.source)).error(where, message)
        except UserError:  # the file was changed or moved since it was read
            return UserError(f"{self.source}: {'.'.join(map(str, where))}: {message}")
