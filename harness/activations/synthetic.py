"""Makes activations of known features, in the same kind of store as a language model's. numpy only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.activations.features import FeatureLaw, Floats
from harness.activations.folders import replacing
from harness.activations.store import MANIFEST
from harness.activations.store_writer import StoreWriter, Unfit
from harness.progress import track

if TYPE_CHECKING:
    from harness.sources.synthetic import Synthetic

Doubles = NDArray[np.float64]

BLOCK = 4096  # tokens drawn at a time; another number would draw others
MEASURED = 8192  # tokens of a draw of their own, on which the means and sizes below are measured
HIDDEN = 4  # units of the nonlinear network a dimension
HOOK = "synthetic"  # in the place of a module of a model
STREAMS = {"law": 0, "mixture": 1, "train": 2, "held_out": 3}  # of random numbers


def make_synthetic(source: Synthetic, out: Path) -> dict[str, Any]:
    """Fill the folder `out` with activations of both splits and the true features of the held-out one.

    The splits are separate draws of the same features; see `FeatureLaw`, `Mixture` and `ActivationStore`.
    The same source gives the same float16 on any machine. Returns the manifest. `out` is replaced as a
    whole, or left as it was. Raises UserError if the dtype cannot hold the values.
    """
    law = FeatureLaw(source, np.random.default_rng([source.seed, STREAMS["law"]]))
    mixture = Mixture(source, law, np.random.default_rng([source.seed, STREAMS["mixture"]]))
    with replacing(out, MANIFEST) as folder:
        counts = {"train": source.tokens, "held_out": source.held_out_tokens}
        writer = StoreWriter(folder, counts, source.width, source.dtype)
        truth = np.empty((source.held_out_tokens, source.features), np.float16)
        for split, count in counts.items():
            starts = range(0, count, BLOCK)
            for start in track(starts, len(starts), f"make {split}"):
                random = np.random.default_rng([source.seed, STREAMS[split], start])
                features = law.draw(min(BLOCK, count - start), random)
                _put(source, writer, split, start, mixture.activations(features, random))
                if split == "held_out":
                    truth[start : start + BLOCK] = features
        writer.write_features(truth, mixture.directions)
        return writer.finish(hook=HOOK, synthetic=source.settings())


class Mixture:
    """How feature values a become an activation x:

    h = sum_f a_f v_f,  u = (h - m) / r,  x = h + nonlinearity r g(u) + noise r e

    with v_f random unit vectors, m the mean of h per dimension, r the root mean square of h - m over all
    entries, e standard normal. g is a random network of two layers, W2 relu(W1 u + b), less its best affine
    fit by u, scaled to unit rms: no linear function of u explains any of it, and a strength of s adds
    s^2 times the variance of the linear sum.

    Sums are in float64, whose last bits depend on the CPU and its threads: what rounding leaves of x does not.
    """

    def __init__(self, wanted: Synthetic, law: FeatureLaw, random: np.random.Generator) -> None:
        directions = random.standard_normal((wanted.features, wanted.width))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.directions: Floats = directions.astype(np.float32)  # v [F, d]
        self.nonlinearity, self.noise = wanted.nonlinearity, wanted.noise
        sums = self._sums(law.draw(MEASURED, random))
        self._mean = sums.mean(0)
        self._rms = np.sqrt(np.square(sums - self._mean).mean()) or 1.0
        self._network = Network((sums - self._mean) / self._rms, random)

    def activations(self, features: Floats, random: np.random.Generator) -> Floats:
        """Activations [tokens, d] of feature values [tokens, F]; `random` draws the noise."""
        out = self._sums(features)
        if self.nonlinearity:
            out = out + self.nonlinearity * self._rms * self._network((out - self._mean) / self._rms)
        if self.noise:
            out = out + self.noise * self._rms * random.standard_normal(out.shape, np.float32)
        return out.astype(np.float32)

    def _sums(self, features: Floats) -> Doubles:
        sums: Doubles = features.astype(np.float64) @ self.directions.astype(np.float64)
        return sums


class Network:
    """g of `Mixture`: relu(u W1 + b) W2, less what is affine in u."""

    def __init__(self, inputs: Doubles, random: np.random.Generator) -> None:
        """Fit the affine part on the inputs u [tokens, d], and measure the size of the rest."""
        width = inputs.shape[1]
        self._into = random.standard_normal((width, HIDDEN * width), np.float32) / np.sqrt(width)
        self._bias = random.standard_normal(HIDDEN * width, np.float32)
        self._out = random.standard_normal((HIDDEN * width, width), np.float32)
        raw = self._raw(inputs)
        self._affine: NDArray[Any] = np.linalg.lstsq(_with_one(inputs), raw, rcond=None)[0]
        self._rms = np.sqrt(np.square(raw - _with_one(inputs) @ self._affine).mean()) or 1.0

    def __call__(self, inputs: Doubles) -> Doubles:
        out: Doubles = (self._raw(inputs) - _with_one(inputs) @ self._affine) / self._rms
        return out

    def _raw(self, inputs: Doubles) -> Doubles:
        out: Doubles = np.maximum(inputs @ self._into + self._bias, 0) @ self._out
        return out


def _with_one(inputs: Doubles) -> Doubles:
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def _put(source: Synthetic, writer: StoreWriter, split: str, start: int, rows: Floats) -> None:
    try:
        writer.put(split, np.arange(start, start + len(rows)), rows)
    except Unfit as failure:
        where = f"token {start + failure.row} of {split}"
        raise source.error(("dtype",), f"{where}: {failure}") from None
