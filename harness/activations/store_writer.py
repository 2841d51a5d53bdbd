"""Writes an activation store: shards in any order of rows, then statistics and the manifest. numpy only."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save_file

from harness.activations.folders import sha256_of
from harness.activations.massive import massive_dimensions, massive_tokens, rounding
from harness.activations.store import FEATURES, FORMAT, MANIFEST, fingerprint_of
from harness.files import write_json

TARGETS = "targets-"  # begins the names of their shards
SHARD_BYTES = 2**26
ROWS_AT_ONCE = 2**14  # measured at a time
TOKENS_MEASURED = 2**18  # for massive ones
ALLOCATED_AT_ONCE = 2**20  # bytes


class Unfit(Exception):
    """A value that a store cannot hold. row: its index among the rows given to `put`."""

    def __init__(self, row: int, value: float, dtype: str) -> None:
        self.row = row
        if math.isnan(value):
            super().__init__("the value is nan, which no dtype mends")
        elif math.isinf(value):
            super().__init__(f"the value is {value:g}, which no dtype mends")
        elif abs(value) < 1:
            super().__init__(f"{dtype} makes 0 of all values, of which the largest is {value:g}; expected float32")
        else:
            super().__init__(f"{dtype} cannot hold the value {value:g}; expected float32")


class StoreWriter:
    """Fills a new folder with activations in any order, then writes the manifest."""

    def __init__(
        self,
        folder: Path,
        tokens: dict[str, int],
        width: int,
        dtype: str,
        shard_tokens: int | None = None,
        target_width: int | None = None,
        prefix: str = "",
    ) -> None:
        """Reserve disk space for `tokens` rows of `width` values in each split.

        shard_tokens: rows per shard; by default 64 MiB of them. target_width: values of each row's target, if the
        store is for transcoders; `targets` is then the writer that takes them. prefix: of the shards' names.
        """
        self.folder, self.tokens, self.width, self.dtype = folder, tokens, width, np.dtype(dtype)
        self.rows = shard_tokens or max(1, SHARD_BYTES // (width * self.dtype.itemsize))
        self._prefix = prefix
        self._shards = {split: self._create(split, count) for split, count in tokens.items()}
        self.targets: StoreWriter | None = None
        if target_width is not None:
            self.targets = StoreWriter(folder, tokens, target_width, dtype, shard_tokens, prefix=TARGETS)
        self._written = dict.fromkeys(tokens, 0)  # rows of each split
        self._features: dict[str, Any] = {}  # what the manifest says about them, if they are known

    def _create(self, split: str, count: int) -> list[np.memmap[Any, np.dtype[Any]]]:
        return [
            self._create_shard(self.folder / self._shard_name(split, index), min(self.rows, count - start))
            for index, start in enumerate(range(0, count, self.rows))
        ]

    def _create_shard(self, file: Path, rows: int) -> np.memmap[Any, np.dtype[Any]]:
        """A shard of zeros with its disk space reserved: on a full disk, writing later would raise SIGBUS."""
        shard = np.lib.format.open_memmap(file, mode="w+", dtype=self.dtype, shape=(rows, self.width))
        allocate(file)
        return shard

    def _shard_name(self, split: str, index: int) -> str:
        """`train-00000.npy` and so on."""
        return f"{self._prefix}{split}-{index:05d}.npy"

    def put(self, split: str, places: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Write the rows `values` [n, width] to the places [n] of the split.

        Raises Unfit if a value is not finite in the store's dtype, or if all of them become 0.
        """
        with np.errstate(over="ignore"):
            kept = values.astype(self.dtype)
        if not (fit := np.isfinite(kept)).all():
            first = tuple(np.argwhere(~fit)[0])
            raise Unfit(int(first[0]), float(values[first]), self.dtype.name)
        if not kept.any() and values.any():
            first = np.unravel_index(np.abs(values).argmax(), values.shape)
            raise Unfit(int(first[0]), float(values[first]), self.dtype.name)
        self._written[split] += len(places)
        shard, row = np.divmod(places, self.rows)
        for index in np.unique(shard):
            here = shard == index
            self._shards[split][index][row[here]] = kept[here]

    def write_features(self, features: NDArray[np.float16], directions: NDArray[np.float32]) -> None:
        """Store the true features [held-out tokens, F] of the held-out split, and their directions [F, width]."""
        file = self.folder / FEATURES
        save_file({"features": features, "directions": directions}, file)
        self._features = {"file": file.name, "count": features.shape[1], "sha256": sha256_of([file])}

    def finish(self, *, target_hook: str | None = None, **about: Any) -> dict[str, Any]:
        """Measure the activations and write the manifest, including `about`. Returns the manifest.

        target_hook: where the targets were read, if there are any.
        Raises ValueError if rows are missing.
        """
        manifest: dict[str, Any] = {
            "format": FORMAT,
            **about,
            "dtype": self.dtype.name,
            "tokens": self.tokens,
            **({"features": self._features} if self._features else {}),
            **self._measured(),
            **({"targets": {"hook": target_hook, **self.targets._measured()}} if self.targets else {}),
        }
        manifest["fingerprint"] = fingerprint_of(manifest)
        write_json(self.folder / MANIFEST, manifest, wait=False)
        return manifest

    def _measured(self) -> dict[str, Any]:
        """What the manifest says about the rows and their shards."""
        for split, count in self.tokens.items():
            if self._written[split] != count:
                raise ValueError(f"{split}: expected {count} rows, {self._written[split]} were put")
        for arrays in self._shards.values():
            for array in arrays:
                array.flush()
        shards = {split: self._describe(split) for split in self._shards}
        measured = moments(partial(self._blocks, "train"), self.width, self.dtype)
        return {"width": self.width, "shards": shards, **measured}

    def _describe(self, split: str) -> list[dict[str, Any]]:
        names = [self._shard_name(split, index) for index in range(len(self._shards[split]))]
        return [
            {"file": name, "tokens": len(shard), "sha256": sha256_of([self.folder / name])}
            for name, shard in zip(names, self._shards[split], strict=True)
        ]

    def _blocks(self, split: str) -> Iterator[NDArray[np.float64]]:
        for shard in self._shards[split]:
            for start in range(0, len(shard), ROWS_AT_ONCE):
                yield shard[start : start + ROWS_AT_ONCE].astype(np.float64)


def allocate(file: Path) -> None:
    """Reserve disk space for the whole of a sparse file. Raises OSError if the disk is full."""
    with file.open("r+b") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
            return
        while block := opened.read(ALLOCATED_AT_ONCE):  # macOS: written blocks have space
            opened.seek(-len(block), os.SEEK_CUR)
            opened.write(block)
        opened.flush()
        os.fsync(opened.fileno())


Blocks = Callable[[], Iterator[NDArray[np.float64]]]  # [rows, width] each; all of them at every call


def moments(blocks: Blocks, width: int, dtype: DTypeLike) -> dict[str, Any]:
    """Statistics of activations: `mean` and `scale` for (x - mean) / scale, and others. dtype: as they are stored.

    mean, std: per dimension. scale: root of the mean over all entries of (x - mean)^2, so that one number
    scales the centred activations to unit variance. norm_mean, norm_std: of the Euclidean norms of
    tokens. outlier_severity: largest |mean| / std of a dimension (arXiv 2605.31518); centring removes it, and it
    says nothing of massive activations. Those are measured as in `harness.activations.massive`.
    """
    count, norm, norm_square = 0, 0.0, 0.0
    total, square = np.zeros(width), np.zeros(width)
    origin: NDArray[np.float64] | None = None  # a first guess of the mean, against cancellation
    for block in blocks():
        origin = block.mean(0) if origin is None else origin
        centred = block - origin
        total, square = total + centred.sum(0), square + (centred**2).sum(0)
        norms = np.linalg.norm(block, axis=1)
        count, norm, norm_square = count + len(block), norm + norms.sum(), norm_square + (norms**2).sum()
    if origin is None:
        raise ValueError("expected at least one activation to measure")
    shift = total / count
    mean, variance = origin + shift, np.maximum(square / count - shift**2, 0)
    std = np.sqrt(variance)
    severity = np.divide(np.abs(mean), std, out=np.zeros(width), where=std > 0)
    scale = float(np.sqrt(variance.mean()))
    return {
        "scale": scale or 1.0,  # constant activations are not scaled
        "norm_mean": float(norm / count),
        "norm_std": math.sqrt(max(norm_square / count - (norm / count) ** 2, 0.0)),
        "outlier_severity": float(severity.max()),
        **massive_dimensions(variance),
        **massive_tokens(((block - mean) ** 2).sum(1) for block in _first(blocks(), TOKENS_MEASURED)),
        **rounding(np.concatenate([*_first(blocks(), ROWS_AT_ONCE)]), dtype, scale),
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def _first(blocks: Iterator[NDArray[np.float64]], rows: int) -> Iterator[NDArray[np.float64]]:
    """Blocks with the first so many rows, or a few more, or all there are."""
    done = 0
    for block in blocks:
        yield block
        if (done := done + len(block)) >= rows:
            return
