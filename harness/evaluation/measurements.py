"""Which measurements there are, and whether those of a cell are up to date. No torch here: `plan` asks, too.

A measurement is a function of a trained SAE and of what it is measured on, `measure(sae, held_out)`, that rows of
`harness.metrics` name: held-out activations, or the language model that runs on the text behind them. It is made
again where its code, the data or the window within which a latent must fire are other than when it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeAlias

from harness import metrics
from harness.fingerprint import code_fingerprint
from harness.study.recipe import Recipe

On: TypeAlias = Literal["activations", "text"]  # what a measurement is made on
# What measurements are made of besides their own functions: these hand over an SAE and what it is measured on.
COMMON_ROOTS: Mapping[On, tuple[str, ...]] = {
    "activations": ("harness.training.trained_sae:TrainedSAE.code", "harness.training.metrics:HeldOut"),
    "text": (
        "harness.training.trained_sae:TrainedSAE.forward",
        "harness.evaluation.language_model:LanguageModelRun",
        "harness.evaluation.language_model:open_run",
    ),
}
# Numbers by name; `layers`, where there is such a key, has those of each sparse layer. What is unknown is absent.
Figures = dict[str, Any]
Stamp = dict[str, Any]  # what decides a measurement besides the SAE
LAYERS = "layers"


@dataclass(frozen=True)
class Measurement:
    """One function that measures, `module:function`, and fingerprints of its code and of the held-out data.

    on: what it is given beside the SAE.
    """

    function: str
    code: str
    held_out: str
    on: On = "activations"

    @property
    def name(self) -> str:
        """That of its file in a cell's folder: `quality.measure` for `harness.evaluation.quality:measure`."""
        return self.function.removeprefix("harness.evaluation.").replace(":", ".")

    def stamp(self, recipe: Recipe) -> Stamp:
        """What the measurement of a cell of this recipe says of how it was made."""
        return {"code": self.code, "held_out": self.held_out, "dead_window": recipe.dead_window}

    def load(self) -> Callable[..., Figures]:
        """The function. Raises ImportError or AttributeError where there is none of this name."""
        module, _, name = self.function.partition(":")
        found: Callable[..., Figures] = getattr(import_module(module), name)
        return found


def measurements(held_out: str, text: str | None = None) -> list[Measurement]:
    """All of them, for held-out activations with this fingerprint, and the text with that one, if there is any."""
    given: dict[On, str | None] = {"activations": held_out, "text": text}
    functions: dict[str, On] = {
        metric.measured_by: metric.measured_on
        for metric in metrics.METRICS
        if {"final", "layer"} & {*metric.places} and metric.measured_on != "latents"  # harness/sweep/latents.py
    }
    return [
        Measurement(function, code_fingerprint([function, *COMMON_ROOTS[on]]), data, on)
        for function, on in functions.items()
        if (data := given[on]) is not None
    ]


def metrics_of(function: str) -> list[str]:
    """The names of the metrics that a function measures."""
    return [metric.name for metric in metrics.METRICS if metric.measured_by == function]


def merged(figures: Iterable[Figures]) -> tuple[Figures, list[Figures]]:
    """The figures of several measurements: of all sparse layers together, and of each layer."""
    together: Figures = {}
    layers: list[Figures] = []
    for found in figures:
        together |= {name: value for name, value in found.items() if name != LAYERS}
        for place, layer in enumerate(found.get(LAYERS, ())):
            layers += [{}] * (place + 1 - len(layers))
            layers[place] = {**layers[place], **layer}
    return together, layers
