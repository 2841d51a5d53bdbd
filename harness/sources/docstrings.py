"""Activations of a small language model that is trained here, on docstrings: nothing has to be downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from harness.activations.model_files import METRICS
from harness.errors import UserError
from harness.files import read_record
from harness.sources.model_cost import HookPoint, ModelCost, model_cost
from harness.sources.source import ACTIVATIONS, Made, Source, Step, Stored
from harness.yaml_file import Strict

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore

CORPUS, LANGUAGE_MODEL = "corpus", "language_model"
Positive = Annotated[int, Field(ge=1)]
Weights = Literal["trained", "random"]  # of a language model


class Corpus(Strict):
    """Text that every installation has: the docstrings of installed packages."""

    packages: Annotated[list[str], Field(min_length=1)]  # import names, as in `numpy`, `sklearn`
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05  # share of the documents
    vocabulary: Annotated[int, Field(ge=300)] = 4096  # of the byte-level BPE tokenizer


class LanguageModel(Strict):
    """A GPT-2-architecture model trained on the corpus, or as it is before its first step."""

    weights: Weights = "trained"  # random: a null for what is said of the latents of a trained one
    layers: Positive
    width: Positive
    heads: Positive
    context: Annotated[int, Field(ge=8)]  # tokens of one sequence
    tokens: Positive  # trained on; the corpus is gone through again where it is shorter
    batch: Positive  # sequences a step
    lr: Annotated[float, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def trained_on(self) -> int:
        """Tokens; none where the weights stay random."""
        return self.tokens if self.weights == "trained" else 0


class Place(Strict):
    """Where in the language model activations are read."""

    hook: str  # module path, as in `transformer.h.2`
    side: Literal["input", "output"] = "output"  # of the module
    width: Positive | None = None  # dimensions there; left out: the language model's

    def __str__(self) -> str:
        """What an activation store says about it."""
        return self.hook if self.side == "output" else f"{self.hook} (input)"


class Places(Place):
    """Where they are read, and for transcoders a second place."""

    target: Place | None = None  # what transcoders predict from it; left out: SAEs reconstruct the activations

    @field_validator("target")
    @classmethod
    def _another_place(cls, target: Place | None, info: ValidationInfo) -> Place | None:
        here = {name: info.data.get(name) for name in ("hook", "side")}
        if target is not None and here == {"hook": target.hook, "side": target.side}:
            raise ValueError("another place than that of the input")
        return target


class Activations(Places):
    """What is kept of the forward passes."""

    tokens: Positive  # to train SAEs on
    held_out_tokens: Positive  # to compare them on
    dtype: Literal["float16", "float32"] = "float16"
    seed: Annotated[int, Field(ge=0)] = 0  # of the shuffle


class Docstrings(Source):
    """From text to activations, by way of a language model."""

    kind: Literal["docstrings"]
    corpus: Corpus
    language_model: LanguageModel
    activations: Activations

    @property
    def stored(self) -> Stored:
        wanted, width = self.activations, self.language_model.width
        target = wanted.target
        return Stored(
            hook=str(wanted),
            width=wanted.width or width,
            target_hook=None if target is None else str(target),
            target_width=None if target is None else target.width or width,
            tokens={"train": wanted.tokens, "held_out": wanted.held_out_tokens},
            dtype=wanted.dtype,
            settings={"seed": wanted.seed, "context": self.language_model.context},
        )

    def model_cost(self) -> ModelCost:
        sizes, wanted = self.language_model, self.activations
        config = {
            "model_type": "gpt2",
            "n_embd": sizes.width,
            "n_layer": sizes.layers,
            "n_head": sizes.heads,
            "vocab_size": self.corpus.vocabulary,
        }
        places = [HookPoint(place.hook, place.side) for place in (wanted, wanted.target) if place is not None]
        name = f"trained here on {sizes.tokens:,} tokens" if sizes.trained_on else "random weights"
        cost = model_cost(name, config, places, sizes.context, "float32")
        passes = 3  # the backward pass: for weights, and for inputs
        return replace(cost, training_flops=passes * cost.whole_flops_per_token * sizes.trained_on)

    def steps(self) -> tuple[Step, ...]:
        return (
            Step(CORPUS, self._make_corpus),
            Step(LANGUAGE_MODEL, self._make_language_model, has_metrics=True),
            Step(ACTIVATIONS, self._make_activations),
        )

    def check(self, store: ActivationStore) -> None:
        """As every source does; a language model that lies beside the store must be the one that was captured."""
        super().check(store)
        if (model := store.path.parent / LANGUAGE_MODEL).exists():
            self._check_weights(model)
            store.check_model(model)
            if store.text_fingerprint is None:
                message = "expected activations with the held-out text beside them; make them again"
                raise UserError(f"{store.path}: {message}: harness prepare {self.path} --step {ACTIVATIONS}")

    def _check_weights(self, model: Path) -> None:
        """Raise UserError if the language model was trained and should not have been, or the other way round."""
        made = read_record(model / METRICS, ("tokens",))
        if made is not None and (made["tokens"] > 0) != (self.language_model.weights == "trained"):
            message = f"expected a language model with {self.language_model.weights} weights, as {self.path} says"
            again = f"harness prepare {self.path} --step {LANGUAGE_MODEL}, then --step {ACTIVATIONS}"
            raise UserError(f"{model}: {message}; make it again: {again}")

    def _make_corpus(self, folder: Path) -> Made:
        from harness.activations.corpus import build_corpus

        splits = build_corpus(self, folder / CORPUS)["splits"]
        train, held_out = (splits[split]["tokens"] for split in ("train", "held_out"))
        return Made(f"corpus {self.name}: {train:,} + {held_out:,} tokens")

    def _make_language_model(self, folder: Path) -> Made:
        from harness.activations.language_model import train_language_model

        metrics = train_language_model(self, folder / CORPUS, folder / LANGUAGE_MODEL)
        held_out, bigram = metrics["held_out_loss"], metrics["bigram_held_out_loss"]
        summary = f"held-out loss {held_out:.3f} nats per token (bigram {bigram:.3f})"
        return Made(f"language model {self.name}: {summary}", metrics)

    def _make_activations(self, folder: Path) -> Made:
        from harness.activations.capture import capture_activations

        self._check_weights(folder / LANGUAGE_MODEL)
        manifest = capture_activations(self, folder / CORPUS, folder / LANGUAGE_MODEL, folder / ACTIVATIONS)
        left_out = sum(manifest["special_left_out"].values())
        tokens = "{train:,} + {held_out:,} tokens".format(**manifest["tokens"])
        where = f"activations {self.name} at {self.stored.hook}"
        if self.stored.target_hook is not None:
            where += f", targets at {self.stored.target_hook}"
        return Made(f"{where}: {tokens} ({left_out:,} special ones left out)")
