"""Reading and writing the two files that SAELens and sparsify keep an SAE in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.errors import UserError
from harness.files import write_atomically, write_json

CONFIG = "cfg.json"  # of both packages


def write_files(folder: Path, config: Mapping[str, Any], weights_file: str, weights: Mapping[str, Tensor]) -> None:
    """Write the weights, and then the configuration."""
    content = save({name: tensor.float().contiguous() for name, tensor in weights.items()})
    write_atomically(folder / weights_file, content)
    write_json(folder / CONFIG, config)


def read_config(folder: Path) -> dict[str, Any]:
    """Raises UserError if it is missing or no JSON object."""
    path = folder / CONFIG
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as failure:
        raise UserError(f"{path}: expected the configuration of an SAE: {failure}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}: expected an object")
    return record


def read_weights(path: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors in float32, under other names: `names` has that of the file for each. Raises UserError."""
    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as failure:
        raise UserError(f"{path}: expected the weights of an SAE: {failure}") from None
    if missing := sorted(set(names.values()) - set(tensors)):
        raise UserError(f"{path}: expected a tensor {missing[0]}")
    if extra := sorted(set(tensors) - set(names.values())):
        raise UserError(f"{path}: {extra[0]}: SAEs with this tensor have no counterpart here")
    return {name: tensors[theirs].to(torch.float32) for name, theirs in names.items()}


def field(config: Mapping[str, Any], path: Path, key: str, kind: type, default: Any = None) -> Any:
    """A value of the configuration. Raises UserError where it is missing without a default, or of another type."""
    value = config.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path / CONFIG}: {key}: expected {kind.__name__}, got {value!r}")
    return value
