"""Any nest of dictionaries, lists, numbers and tensors as a flat mapping of tensors, and back. No pickles.

Optimizers of several packages keep their state in shapes of their own; what is no tensor goes into one JSON text.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

STRUCTURE = "structure"
_TENSOR, _PAIRS, _TUPLE = "__tensor__", "__pairs__", "__tuple__"


def pack(tree: Any) -> dict[str, Tensor]:
    """The tensors of `tree` by path, and its structure as UTF-8 bytes. Raises TypeError for other objects."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(tree, "", tensors))
    return {**tensors, STRUCTURE: torch.tensor(list(text.encode()), dtype=torch.uint8)}


def unpack(tensors: dict[str, Tensor]) -> Any:
    """What `pack` was given. Raises KeyError where something is missing."""
    return _unpack(json.loads(bytes(tensors[STRUCTURE].tolist())), tensors)


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        while path in tensors:  # {"a.b": ...} beside {"a": {"b": ...}}
            path += "'"
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, dict):  # keys may be numbers, which JSON would turn to text
        return {_PAIRS: [[key, _pack(inner, f"{path}.{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        packed = [_pack(inner, f"{path}.{number}", tensors) for number, inner in enumerate(value)]
        return {_TUPLE: packed} if isinstance(value, tuple) else packed
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path.lstrip('.')}: cannot be checkpointed: {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(inner, tensors) for inner in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _TUPLE in value:
            return tuple(_unpack(inner, tensors) for inner in value[_TUPLE])
        return {key: _unpack(inner, tensors) for key, inner in value[_PAIRS]}
    return value
