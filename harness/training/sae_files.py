"""The files of a trained SAE: `sae.safetensors` and `config.json`. docs/trained_sae.md says what is in them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.errors import UserError
from harness.files import write_atomically
from harness.study.recipe import Recipe
from harness.training.centring import Centring

FORMAT = 1
FILES = WEIGHTS, CONFIG_FILE = "sae.safetensors", "config.json"
CONFIG = "config"  # likewise in a checkpoint, as UTF-8 bytes


def _version() -> str | None:
    try:
        return version("harness")
    except PackageNotFoundError:  # run from its sources
        return None


@dataclass(frozen=True)
class SAEConfig:
    """What an SAE is besides its weights, and where it comes from.

    input, target: what centres and scales the activations that are encoded, and those that are reconstructed: the
    same, but for a transcoder.
    source: the source's name. data, code: fingerprints of its activations and of the code that trained. tokens:
    trained on so far. k: active latents per token then, over all coders. calibration: what thresholds came to.
    hook, target_hook: where the activations, and a transcoder's targets, were captured. package: what saved it;
    of an SAE from another one, `source`, `data`, `code` and `tokens` are unknown, and of the recipe only what its
    weights need is known (`interchange.plain.from_plain`).
    """

    recipe: Recipe
    input: Centring
    target: Centring
    source: str | None = None
    data: str | None = None
    code: str | None = None
    harness: str | None = _version()
    tokens: int = 0
    k: int = 0
    calibration: dict[str, Any] | None = None
    transcoder: bool = False
    hook: str | None = None
    target_hook: str | None = None
    package: str = "harness"

    @property
    def width(self) -> int:
        """Dimensions of an activation."""
        return len(self.input.mean)

    @property
    def target_width(self) -> int | None:
        """Those of what a transcoder predicts; None for an SAE."""
        return len(self.target.mean) if self.transcoder else None

    def to_bytes(self, **more: Any) -> bytes:
        """As JSON, followed by `more`; numbers keep all their bits."""
        centrings = {"input": self.input, "target": self.target}
        plain = {name: _plain(centring) for name, centring in centrings.items()}
        others = {name: value for name, value in vars(self).items() if name not in ("recipe", *centrings)}
        record = {"format": FORMAT, **others, "recipe": asdict(self.recipe), **plain, **more}
        return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()

    def to_tensor(self) -> Tensor:
        """The same as a tensor of bytes, for a checkpoint."""
        return torch.frombuffer(bytearray(self.to_bytes()), dtype=torch.uint8)


def config_from(content: bytes, where: Path) -> SAEConfig:
    """What `to_bytes` made. Raises UserError naming `where` if it is anything else."""
    try:
        record = json.loads(content)
        if record["format"] != FORMAT:
            raise UserError(f"{where}: format: expected {FORMAT}, got {record['format']!r}")
        names = SAEConfig.__dataclass_fields__.keys() - {"recipe", "input", "target"}
        return SAEConfig(
            Recipe(**record["recipe"]),
            _centring(record["input"]),
            _centring(record["target"]),
            **{name: record[name] for name in names},
        )
    except (ValueError, KeyError, TypeError) as failure:
        made_by = f"{type(failure).__name__}: {failure}"
        raise UserError(f"{where}: expected what `TrainedSAE.save` of this version writes: {made_by}") from None


def _plain(centring: Centring) -> dict[str, Any]:
    std = None if centring.std is None else centring.std.tolist()
    return {"scale": float(centring.scale), "mean": centring.mean.tolist(), "std": std}


def _centring(record: dict[str, Any]) -> Centring:
    mean = torch.tensor(record["mean"], dtype=torch.float32)
    std = None if record["std"] is None else torch.tensor(record["std"], dtype=torch.float32)
    if mean.dim() != 1 or (std is not None and std.shape != mean.shape):
        raise ValueError("mean and std: expected one number per dimension")
    return Centring(mean, torch.tensor(float(record["scale"])), std)


def write_folder(folder: Path, config: SAEConfig, weights: dict[str, Tensor]) -> None:
    """Write both files, config.json last: with it, which has the weights' SHA-256, the SAE is whole."""
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / CONFIG_FILE, config.to_bytes(weights=hashlib.sha256(content).hexdigest()))


def read_folder(folder: Path) -> tuple[SAEConfig, dict[str, Tensor]]:
    """Both files. Raises UserError where one is missing or is not as it was written."""
    content, weights = (_read(folder, name) for name in (CONFIG_FILE, WEIGHTS))
    config = config_from(content, folder / CONFIG_FILE)
    if hashlib.sha256(weights).hexdigest() != json.loads(content).get("weights"):
        raise UserError(f"{folder / WEIGHTS}: its content is not what was written")
    try:
        return config, load(weights)
    except SafetensorError as failure:
        raise UserError(f"{folder / WEIGHTS}: expected tensors: {failure}") from None


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as failure:
        expected = f"expected a trained SAE, with {CONFIG_FILE} and {WEIGHTS}"
        raise UserError(f"{folder / name}: {failure.strerror}; {expected}") from None
