"""Every metric of an SAE: the one table that training, tables, figures, report, databases and docs read.

A new metric is one function, which measures it, and one row in the module of this package that has its like.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from harness.metrics.features import FEATURES, MCC
from harness.metrics.language_model import LANGUAGE_MODEL
from harness.metrics.latents import OF_LATENTS
from harness.metrics.metric import CURVES, Metric, Place
from harness.metrics.reconstruction import FVU, RECONSTRUCTION, UNEXPLAINED
from harness.metrics.sparsity import DEAD, L0, SPARSITY
from harness.metrics.training import SILENT, TRAINING

__all__ = [
    "DEAD",
    "FVU",
    "L0",
    "MCC",
    "METRICS",
    "OF_LATENTS",
    "SILENT",
    "Metric",
    "Place",
    "compared",
    "curve_columns",
    "metrics_at",
    "present",
]

METRICS: tuple[Metric, ...] = (  # in the order in which tables have them
    *RECONSTRUCTION,
    *SPARSITY,
    UNEXPLAINED,
    *LANGUAGE_MODEL,
    *FEATURES,
    *OF_LATENTS,
    *TRAINING,
)


def metrics_at(place: Place) -> tuple[Metric, ...]:
    """The metrics that are measured there."""
    return tuple(metric for metric in METRICS if place in metric.places)


def present(metrics: Iterable[Metric], measured: Container[str]) -> tuple[Metric, ...]:
    """Those of `metrics` to be shown: all but the optional ones that `measured`, names with values, lacks."""
    return tuple(metric for metric in metrics if not metric.optional or metric.name in measured)


def compared(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Those of `metrics` that arms are compared by."""
    return tuple(metric for metric in metrics if metric.change is not None)


def curve_columns() -> dict[str, Metric]:
    """What points of curves have: `heldout_fvu`, `train_l0` and so on, with their metrics."""
    return {f"{place}_{metric.name}": metric for place in CURVES for metric in metrics_at(place)}
