"""How much of the activations is lost: errors of the reconstruction on held-out activations."""

from __future__ import annotations

from harness.metrics.metric import Metric

ROBUST = "harness.evaluation.robust"

FVU = Metric(
    "fvu",
    "FVU",
    axis="held-out FVU",
    definition="fraction of variance unexplained: the sum of squared errors over the sum of squares about the "
    "held-out mean of each dimension; 0 is perfect, 1 is as good as always saying the mean",
    change="percent",
    better="lower",
    places=("final", "heldout"),
)
RECONSTRUCTION: tuple[Metric, ...] = (
    FVU,
    Metric(
        "nmse",
        "normalised MSE",
        axis="held-out normalised MSE",
        definition="mean over tokens of the squared error over the squared distance from the held-out mean: every "
        "token weighs the same, whatever its norm",
        better="lower",
        places=("final", "heldout"),
    ),
    Metric(
        "nmse_median",
        "median normalised MSE",
        axis="held-out median normalised MSE",
        definition="median over tokens of the squared error over the squared distance from the held-out mean",
        better="lower",
        measured_by=f"{ROBUST}:median_nmse",
    ),
    Metric(
        "nmse_layer_norm",
        "normalised MSE of layer-normed tokens",
        axis="held-out normalised MSE of layer-normed tokens",
        definition="mean over tokens of the squared error over the squared distance of the token from its own "
        "mean over dimensions, as after `inputs: layer_norm`; tokens that are constant over dimensions do not "
        "count",
        better="lower",
        measured_by=f"{ROBUST}:layer_norm_nmse",
    ),
    Metric(
        "fvu_trimmed",
        "trimmed FVU",
        axis="held-out trimmed FVU",
        definition="FVU of the 95 % of the held-out tokens that are nearest to the held-out mean, about their own "
        "mean: massive tokens have no part in it",
        better="lower",
        measured_by=f"{ROBUST}:trimmed_fvu",
    ),
    Metric(
        "fvu_dimensions",
        "FVU per dimension",
        axis="held-out FVU per dimension",
        definition="mean over dimensions of the FVU of each: every dimension weighs the same, whatever its "
        "variance",
        better="lower",
        measured_by=f"{ROBUST}:dimensions_fvu",
    ),
    Metric(
        "mse",
        "MSE",
        axis="held-out MSE",
        definition="mean over tokens and dimensions of the squared error, in the language model's own units",
        better="lower",
        places=("final", "heldout"),
    ),
)
UNEXPLAINED = Metric(
    "unexplained",
    "unexplained after it",
    axis="unexplained after the layer",
    definition="sum of squares of what is left over after the layer / sum of squares of what the SAE is to "
    "reconstruct, both in the terms of `inputs`, and so near FVU only where these are `centred`",
    better="lower",
    places=("layer",),
)
