"""Dimensions and tokens so large that they alone decide the error, and values too small for their dtype.

Sun et al. 2024 (arXiv 2402.17762) call such values massive activations. numpy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MASSIVE = 5.0  # times the median
SHARE = 0.1  # of the variance, from which on it is said
ROUNDING = 1e-4  # of the variance, from which on it is said: an FVU below is not to be had
DECIDE = "so that FVU and MSE tell of little else"
MEASURED = (  # by the functions below, in a store's manifest
    "massive_dimensions",
    "massive_dimension_share",
    "massive_token_fraction",
    "massive_token_share",
    "rounding_share",
    "zero_fraction",
    "subnormal_fraction",
)


def massive_dimensions(variance: NDArray[np.float64]) -> dict[str, Any]:
    """Which dimensions have a standard deviation above 5 times the median one, and their share of the variance.

    variance: of each dimension. Constant dimensions do not count.
    """
    varying = variance[variance > 0]
    if not len(varying):
        return {"massive_dimensions": [], "massive_dimension_share": 0.0}
    massive = variance > MASSIVE**2 * np.median(varying)
    share = float(variance[massive].sum() / variance.sum())
    return {"massive_dimensions": np.flatnonzero(massive).tolist(), "massive_dimension_share": share}


def massive_tokens(blocks: Iterable[NDArray[np.float64]]) -> dict[str, Any]:
    """Fraction of the tokens that are over 5 times as far from the mean as the median one; their share of squares.

    blocks: squared distances of tokens from the mean.
    """
    squares = np.concatenate([*blocks])
    massive = squares > MASSIVE**2 * np.median(squares)
    total = float(squares.sum())
    share = float(squares[massive].sum()) / total if total else 0.0
    return {"massive_token_fraction": float(massive.mean()), "massive_token_share": share}


def rounding(rows: NDArray[np.float64], dtype: DTypeLike, scale: float) -> dict[str, Any]:
    """What storing in `dtype` has cost, estimated from stored values [rows, width].

    rounding_share: mean square of the rounding errors over the variance, scale^2. An error is taken as uniform
    over the distance u between neighbouring numbers of the dtype, which has a mean square of u^2 / 12.
    zero_fraction, subnormal_fraction: of values that are 0, and of those that are stored with less than the
    dtype's precision, because they are smaller than its smallest normal number.
    """
    stored = np.abs(rows.astype(dtype))
    tiny = np.finfo(stored.dtype).tiny
    error = float(np.square(np.spacing(stored).astype(np.float64)).mean() / 12)
    return {
        "rounding_share": error / scale**2 if scale else 1.0,
        "zero_fraction": float((stored == 0).mean()),
        "subnormal_fraction": float(((stored > 0) & (stored < tiny)).mean()),
    }


def measured(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a store's manifest that `warnings` reads."""
    found = {name: manifest[name] for name in ("dtype", *MEASURED)}
    if (targets := manifest.get("targets")) is not None:
        found["targets"] = {name: targets[name] for name in MEASURED}
    return found


def warnings(measured: Mapping[str, Any]) -> list[str]:
    """What weakens every figure on a store's activations, and what helps; a line each.

    measured: see there; a whole manifest will do, too.
    """
    found = _warnings(measured, measured["dtype"], "activations")
    if (targets := measured.get("targets")) is not None:
        found += _warnings(targets, measured["dtype"], "targets")
    return found


def _warnings(measured: Mapping[str, Any], dtype: str, what: str) -> list[str]:
    found = []
    if measured["massive_dimension_share"] >= SHARE:
        numbers = measured["massive_dimensions"]
        some = ", ".join(map(str, numbers[:5])) + (" and others" if len(numbers) > 5 else "")
        have = "has" if len(numbers) == 1 else "have"
        found.append(
            f"massive {what}: {len(numbers)} of the dimensions ({some}) {have} "
            f"{_percent(measured['massive_dimension_share'])} of the variance, {DECIDE}; train with `inputs: "
            "standardised`, and read fvu_dimensions, in which every dimension weighs the same"
        )
    if measured["massive_token_share"] >= SHARE:
        found.append(
            f"massive {what}: {_percent(measured['massive_token_fraction'])} of the tokens have "
            f"{_percent(measured['massive_token_share'])} of the variance, {DECIDE}; leave their positions out "
            "(`skip_first` and `skip_special` of a pretrained source), or train with `inputs: layer_norm` or "
            "`unit_norm`, and read fvu_trimmed, nmse and nmse_median"
        )
    if measured["rounding_share"] >= ROUNDING:
        found.append(
            f"{dtype} is too coarse for these {what}: rounding is about {_percent(measured['rounding_share'])} of "
            f"their variance ({_percent(measured['zero_fraction'])} of the values are stored as 0, "
            f"{_percent(measured['subnormal_fraction'])} as subnormal numbers); store them with `dtype: float32`"
        )
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.99 else f"{100 * share:.5g} %"
