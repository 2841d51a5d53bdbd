"""Activations made of known features: no model, no text, and the truth is kept beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from harness.sources.source import ACTIVATIONS, Made, Source, Step, Stored

Positive = Annotated[int, Field(ge=1)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Synthetic(Source):
    """The law of the features; `harness/activations/features.py` and `synthetic.py` say it in full."""

    kind: Literal["synthetic"]
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
        from harness.activations.features import MAX_RATE, most_active

        if {"features", "hierarchy"} <= info.data.keys():
            most = most_active(info.data["features"], info.data["hierarchy"])
            if active > most:
                raise ValueError(f"at most {most:g} (a feature fires on at most {MAX_RATE:.0%} of the tokens)")
        return active

    @property
    def stored(self) -> Stored:
        return Stored(
            hook="synthetic",
            width=self.width,
            tokens={"train": self.tokens, "held_out": self.held_out_tokens},
            dtype=self.dtype,
            features=self.features,
            settings={"synthetic": self.settings()},
        )

    def settings(self) -> dict[str, Any]:
        """All that decides the activations."""
        return self.model_dump(exclude={"kind"})

    def steps(self) -> tuple[Step, ...]:
        return (Step(ACTIVATIONS, self._make_activations),)

    def _make_activations(self, folder: Path) -> Made:
        from harness.activations.synthetic import make_synthetic

        make_synthetic(self, folder / ACTIVATIONS)
        tokens = f"{self.tokens:,} + {self.held_out_tokens:,} tokens"
        return Made(f"activations {self.name}: {tokens} ({self.features:,} known features)")
