"""Activations on disk: memory-mapped shards, with their mean and scale. numpy only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from harness.activations.folders import read_json, sha256_of
from harness.errors import UserError

Floats = NDArray[np.float32]

FORMAT = 3
MANIFEST = "manifest.json"
FEATURES = "features.safetensors"
SPLITS = ("train", "held_out")
WINDOW = 262_144  # tokens of a training window where the manifest does not say
VERIFIED = 2**28  # bytes: about half a second
AGAIN = "make the activations again: harness prepare SOURCE --step activations"
OF_WINDOWS = ("window", "feed", "stream")  # of a manifest, where it has them; they decide the numbers, too
OF_TARGETS = ("hook", "width", "shards", "mean", "scale", "std")  # what decides, of a manifest's entry `targets`
DECISIVE = ("format", "dtype", "tokens", "features", *OF_TARGETS)  # of the manifest itself


class ActivationStore:
    """A folder of shards `train-00000.npy`, ..., each [tokens, width], and its `manifest.json`.

    A store for transcoders also has the target of each activation: `targets-train-00000.npy`, ... in the same
    order, with a hook, a width, a mean and a scale of their own.

    Training tokens are used in windows of `window` tokens that follow each other. A *streamed* store has the first
    one on disk (and all held-out tokens); the others are made when they are needed, by who trains. `stream` in its
    manifest is the fingerprint of all that decides them.

    If the true features are known, `features.safetensors` has those of the held-out tokens, `features`
    [tokens, F], and `directions` [F, width].
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        """Use `open`."""
        self.path = path
        self.manifest = manifest
        self._shards = {split: _open_shards(path, manifest, split) for split in SPLITS}
        self._starts = {split: np.cumsum([0, *map(len, shards)]) for split, shards in self._shards.items()}
        given = manifest.get("targets")
        self.targets: ActivationStore | None = None  # what transcoders predict, read like the activations
        if given is not None:
            self.targets = ActivationStore(path, {**manifest, "targets": None, **given})

    @classmethod
    def open(cls, path: Path) -> ActivationStore:
        """Map the shards without reading them. Raises UserError if `path` is not a complete activation store."""
        manifest = read_json(path / MANIFEST, "an activation store")
        if manifest.get("format") != FORMAT:
            found = manifest.get("format")
            raise UserError(f"{path / MANIFEST}: format: expected {FORMAT}, got {found!r}; {AGAIN}")
        if fingerprint_of(manifest) != manifest.get("fingerprint"):
            raise UserError(f"{path / MANIFEST}: fingerprint: expected that of the other entries; {AGAIN}")
        store = cls(path, manifest)
        _read_features(path, manifest, slice(0))
        return store

    def verify(self, most: int = VERIFIED) -> None:
        """Raise UserError if a shard differs from what was written. Reads at most `most` bytes."""
        for shard, about in self._written():
            if (most := most - shard.nbytes) < 0:
                return
            file = self.path / about["file"]
            if sha256_of([file]) != about["sha256"]:
                raise UserError(f"{file}: its content is not what was written; {AGAIN}")

    def _written(self) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
        """All shards, and what the manifest says about them."""
        for split in SPLITS:
            for store in (self, self.targets):
                if store is not None:
                    yield from zip(store._shards[split], store.manifest["shards"][split], strict=True)

    @property
    def width(self) -> int:
        """Dimensions of an activation."""
        return int(self.manifest["width"])

    @property
    def itemsize(self) -> int:
        """Bytes of an entry on disk."""
        return int(np.dtype(self.manifest["dtype"]).itemsize)

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides the numbers: stores with the same one hold the same activations."""
        return str(self.manifest["fingerprint"])

    @property
    def text_fingerprint(self) -> str | None:
        """Likewise of the language model and the held-out text that it runs on; None where there is none."""
        text = self.manifest.get("text")
        return None if text is None else str(text["fingerprint"])

    def tokens(self, split: str) -> int:
        """Tokens of `split`, which is `train` or `held_out`; of a stream, those that are not on disk, too."""
        return int(self.manifest["tokens"][split])

    @property
    def window(self) -> int:
        """Tokens of a training window; the last one may be shorter."""
        return _window(self.manifest)

    def has_window(self, number: int) -> bool:
        """Whether this training window is on disk."""
        return bool(self._window_end(number) <= self._starts["train"][-1])

    def read_window(self, number: int) -> list[NDArray[Any]]:
        """A training window: inputs [tokens, width], and targets if there are any. Not to be written to.

        What one shard holds is not read but mapped, so that several processes share its memory.
        Raises IndexError where it is not on disk.
        """
        rows = self._view("train", number * self.window, self._window_end(number))
        return [rows] if self.targets is None else [rows, *self.targets.read_window(number)]

    def _window_end(self, number: int) -> int:
        return min((number + 1) * self.window, self.tokens("train"))

    def _view(self, split: str, start: int, stop: int) -> NDArray[Any]:
        """As `read`, but mapped where one shard has all these tokens."""
        starts = self._starts[split]
        shard = int(np.searchsorted(starts, start, side="right")) - 1
        if 0 <= start < stop <= starts[-1] and stop <= starts[shard + 1]:
            return np.asarray(self._shards[split][shard])[start - starts[shard] : stop - starts[shard]]
        return self.read(split, start, stop)

    @property
    def mean(self) -> Floats:
        """Mean of the training split [width]; activations are used as (x - mean) / scale."""
        return np.array(self.manifest["mean"], dtype=np.float32)

    @property
    def std(self) -> Floats:
        """Standard deviation of each dimension [width]."""
        return np.array(self.manifest["std"], dtype=np.float32)

    @property
    def scale(self) -> float:
        """Root mean square of all entries of x - mean."""
        return float(self.manifest["scale"])

    def read(self, split: str, start: int, stop: int) -> NDArray[Any]:
        """Activations [stop - start, width] as they were written, in a new array.

        Raises IndexError where [start, stop) is not within the split.
        """
        starts = self._starts[split]
        if not 0 <= start <= stop <= starts[-1]:
            where = " on disk" if starts[-1] < self.tokens(split) else ""
            raise IndexError(f"{split} has tokens [0, {starts[-1]}){where}, asked for [{start}, {stop})")
        out = np.empty((stop - start, self.width), dtype=self.manifest["dtype"])
        first = int(np.searchsorted(starts, start, side="right")) - 1
        for shard, begin in zip(self._shards[split][first:], starts[first:], strict=False):
            if begin >= stop:
                break
            low, high = max(start, begin), min(stop, begin + len(shard))
            out[low - start : high - start] = shard[low - begin : high - begin]
        return out

    def features(self) -> Floats | None:
        """True features [held-out tokens, F], in the order of that split; None if they are not known."""
        return _read_features(self.path, self.manifest, slice(None))

    def check_model(self, model: Path) -> None:
        """Raise UserError if the activations are not those of the language model in the folder `model`."""
        if model_fingerprint(model) != self.manifest["model_fingerprint"]:
            made_by = self.manifest["model"]
            raise UserError(
                f"{self.path}: expected activations of the model in {model}, got those of another one "
                f"(then in {made_by}); capture them again"
            )


def _open_shards(path: Path, manifest: dict[str, Any], split: str) -> list[NDArray[Any]]:
    shards = [_open_shard(path / shard["file"], manifest, shard) for shard in manifest["shards"][split]]
    expected = manifest["tokens"][split]
    if split == "train" and manifest.get("feed") == "stream":
        expected = min(expected, _window(manifest))
    if sum(map(len, shards)) != expected:
        raise UserError(f"{path}: {split}: expected {expected} tokens, the shards have other")
    return shards


def _window(manifest: dict[str, Any]) -> int:
    return int(manifest.get("window", WINDOW))


def _open_shard(file: Path, manifest: dict[str, Any], shard: dict[str, Any]) -> NDArray[Any]:
    shape, dtype = (shard["tokens"], manifest["width"]), np.dtype(manifest["dtype"])
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else str(failure)
        raise UserError(f"{file}: expected a complete shard of activations: {reason}") from None
    if array.shape != shape or array.dtype != dtype:
        raise UserError(f"{file}: expected {shape} of {dtype}, got {array.shape} of {array.dtype}")
    return array


def _read_features(path: Path, manifest: dict[str, Any], rows: slice) -> Floats | None:
    """Some rows of the true features, if they are known. Raises UserError if the file is damaged."""
    if (about := manifest.get("features")) is None:
        return None
    file, shape = path / about["file"], [manifest["tokens"]["held_out"], about["count"]]
    try:
        with safe_open(file, "numpy") as opened:
            kept = opened.get_slice("features")
            if kept.get_shape() != shape:
                raise SafetensorError(f"{shape} of them, got {kept.get_shape()}")
            return np.asarray(kept[rows], np.float32)
    except (OSError, SafetensorError) as failure:
        raise UserError(f"{file}: expected complete true features: {failure}") from None


def fingerprint_of(manifest: dict[str, Any]) -> str:
    """sha256 over everything that decides the numbers that an `ActivationStore` returns."""
    decisive = {name: manifest.get(name) for name in DECISIVE}
    decisive |= {name: manifest[name] for name in OF_WINDOWS if name in manifest}
    if (targets := manifest.get("targets")) is not None:
        decisive["targets"] = {name: targets.get(name) for name in OF_TARGETS}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def model_fingerprint(model: Path) -> str:
    """sha256 of the weights and the configuration of a `save_pretrained` folder. Raises UserError if none."""
    files = [*sorted(model.glob("*.safetensors")), model / "config.json"]
    if len(files) == 1 or not files[-1].is_file():
        raise UserError(f"{model}: expected a language model, found no config.json with *.safetensors")
    return sha256_of(files)
