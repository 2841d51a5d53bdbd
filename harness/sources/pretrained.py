"""Activations of any causal language model on any text: folders and files of this machine, or of the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from harness.activations.stream_file import ModelSpec, ReadAt
from harness.activations.text_spec import ContextSettings, TextSpec
from harness.sources.docstrings import Places, Weights
from harness.sources.model_cost import HookPoint, ModelCost, NotKnown, model_cost
from harness.sources.source import ACTIVATIONS, Made, Source, Step, Stored

Positive = Annotated[int, Field(ge=1)]
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?B)")
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
TOKENS_PER_PASS = 8192


class Activations(ContextSettings, Places):
    """Where activations are read, at which tokens, and how they are fed to training."""

    contexts_per_pass: Positive | None = None  # left out: as many as have 8,192 tokens
    dtype: Literal["float16", "float32"] = "float16"  # of the rows that are stored or streamed
    feed: Literal["stored", "stream"] = "stored"
    disk: str = "50GB"  # most that the store may take

    @field_validator("disk")
    @classmethod
    def _is_a_size(cls, disk: str) -> str:
        if not SIZE.fullmatch(disk):
            raise ValueError("a size such as 50GB")
        return disk

    @property
    def disk_limit(self) -> int:
        """Bytes."""
        number, unit = SIZE.fullmatch(self.disk).groups()  # type: ignore[union-attr]
        return int(float(number) * BYTES[unit])


class Model(ModelSpec):
    """A model that somebody has trained, or its architecture as it is before the first step."""

    weights: Weights = "trained"  # random: a null for what is said of the latents of a trained one
    seed: Annotated[int, Field(ge=0)] = 0  # of random weights


class Pretrained(Source):
    """From text to activations, by way of a model that somebody else has trained."""

    kind: Literal["pretrained"]
    model: Model
    text: TextSpec
    activations: Activations

    @property
    def stored(self) -> Stored:
        wanted, target = self.activations, self.activations.target
        return Stored(
            hook=str(wanted),
            width=wanted.width or self.hidden_size,
            target_hook=None if target is None else str(target),
            target_width=None if target is None else target.width or self.hidden_size,
            tokens={"train": wanted.tokens, "held_out": wanted.held_out_tokens},
            dtype=wanted.dtype,
            settings={"feed": wanted.feed, "window": wanted.window, "pretrained": self.asked()},
        )

    @property
    def disk_limit(self) -> int:
        """The most that it may take there, in bytes."""
        return self.activations.disk_limit

    def model_cost(self) -> ModelCost:
        wanted, model = self.activations, self.model
        places = [HookPoint(place.hook, place.side) for place in (wanted, wanted.target) if place is not None]
        try:
            return model_cost(model.name, self.config(), places, wanted.context, model.dtype)
        except NotKnown as failure:
            raise self.error(("model", "name"), f"{model.name}: {failure}") from None

    @property
    def hidden_size(self) -> int:
        """Width of the model's residual stream. Raises UserError if its configuration cannot be read."""
        from harness.activations.model_files import hidden_size

        size = hidden_size(self.config())
        if size is None:
            message = "expected the dimensions at the hook, since the model's config.json does not say its width"
            raise self.error(("activations", "width"), message)
        return size

    def config(self) -> dict[str, Any]:
        """The model's `config.json`. Raises UserError if there is none, or if it is on a hub that is not here."""
        from harness.activations.model_files import read_config

        return read_config(self.model.name, self.model.revision, self.error)

    @property
    def model_read(self) -> ModelSpec:
        """The model without what is only said of random weights."""
        return ModelSpec(**self.model.model_dump(include=set(ModelSpec.model_fields)))

    def asked(self) -> dict[str, Any]:
        """What the file says that decides activations, as the store's manifest has it."""
        model = self.model_read if self.model.weights == "trained" else self.model
        return {
            "model": model.model_dump(exclude={"device_map"}),
            "text": self.text.model_dump(exclude_none=True),
            "activations": self.activations.model_dump(exclude={"disk", "feed", "tokens", "held_out_tokens"}),
        }

    @property
    def disk_bytes(self) -> int:
        """What the activation store takes on disk."""
        stored, wanted = self.stored, self.activations
        train = min(wanted.tokens, wanted.window) if wanted.feed == "stream" else wanted.tokens
        values = (train + wanted.held_out_tokens) * (stored.width + (stored.target_width or 0))
        return values * (2 if wanted.dtype == "float16" else 4)

    def check_disk(self) -> None:
        """Raise UserError if the store would take more than the source file allows."""
        if (needed := self.disk_bytes) > self.activations.disk_limit:
            instead = "" if self.activations.feed == "stream" else ", or feed: stream"
            message = (
                f"expected at least {_size(needed)} for this many tokens{instead}; got {self.activations.disk}"
            )
            raise self.error(("activations", "disk"), message)

    @property
    def contexts_per_pass(self) -> int:
        """Contexts of one forward pass of the language model."""
        return self.activations.contexts_per_pass or max(1, TOKENS_PER_PASS // self.activations.context)

    @property
    def contexts(self) -> ContextSettings:
        """How documents become contexts."""
        return ContextSettings(**{name: getattr(self.activations, name) for name in ContextSettings.model_fields})

    @property
    def places(self) -> list[ReadAt]:
        """Where the input is read, then the target if there is one."""
        stored, wanted = self.stored, self.activations
        places = [ReadAt(hook=wanted.hook, side=wanted.side, width=stored.width)]
        if wanted.target is not None and stored.target_width is not None:
            target = wanted.target
            places.append(ReadAt(hook=target.hook, side=target.side, width=stored.target_width))
        return places

    def steps(self) -> tuple[Step, ...]:
        return (Step(ACTIVATIONS, self._make_activations),)

    def _make_activations(self, folder: Path) -> Made:
        from harness.activations.capture_windows import capture_windows

        self.check_disk()
        manifest = capture_windows(self, folder / ACTIVATIONS)
        tokens = "{train:,} + {held_out:,} tokens".format(**manifest["tokens"])
        where = f"activations {self.name} at {self.stored.hook}"
        if self.stored.target_hook is not None:
            where += f", targets at {self.stored.target_hook}"
        how = "; all but the first window of the training tokens are made while cells train"
        return Made(f"{where}: {tokens}{how if manifest['feed'] == 'stream' else ''}")


def _size(number: int) -> str:
    """Bytes in words, rounded up: what is enough, said in three digits."""
    unit = next((u for u in ("TB", "GB", "MB", "KB") if number >= BYTES[u]), "B")
    return f"{-(-number * 100 // BYTES[unit]) / 100:g}{unit}"
