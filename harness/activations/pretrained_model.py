"""Loads a language model and its tokenizer from a folder: nothing is downloaded, unpickled or run from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.activations import NewGELUActivation

from harness.activations.model_files import NAME, find_model, fingerprint_of_model, text_config
from harness.activations.quiet import no_bars
from harness.activations.stream_file import ModelSpec
from harness.activations.text_spec import ContextSettings, Raise
from harness.errors import UserError

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
DEVICE_MAP = ("model", "device_map")


def load_model(folder: Path, dtype: str = "float32", device_map: str | None = None) -> tuple[Any, Any]:
    """Model (evaluation mode) and tokenizer from a local folder.

    dtype: a name of torch's, or auto for that of the checkpoint. device_map: as `transformers` takes it.
    Raises UserError if one of them cannot be loaded.
    """
    given = {} if device_map is None else {"device_map": device_map}
    wanted = dtype if dtype == "auto" else getattr(torch, dtype)
    with no_bars():
        with _loading(folder, "a causal language model"):
            model = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=wanted, **LOCAL, **given
            )
        with _loading(folder, "its tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers' result without tokenizer files
        raise UserError(f"{folder}: expected its tokenizer, found none with a vocabulary")
    return model.eval().requires_grad_(False), tokenizer


def new_model(folder: Path, dtype: str, seed: int) -> Any:
    """A model of the configuration in a local folder, with the weights that its architecture begins with.

    They are drawn in float32, on the CPU, by the seed; torch's global generator is left as it was. dtype: as
    `load_model` takes it. Raises UserError if there can be none.
    """
    with _loading(folder, "a causal language model"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    wanted = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
    return model.to(wanted)


@contextmanager
def _loading(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as failure:  # transformers has no exception class for unreadable files
        reason = next(iter(str(failure).strip().splitlines()), type(failure).__name__)
        if "trust_remote_code" in str(failure):
            reason = "it needs code of its own, which is not run"
        raise UserError(f"{folder}: expected {what}: {reason}") from None


def resolve_model(model: ModelSpec, error: Raise) -> tuple[ModelSpec, str]:
    """The model at the commit that its revision stands for now, and a fingerprint of its files."""
    found = find_model(model.name, model.revision, error)
    return model.model_copy(update={"revision": found.commit}), fingerprint_of_model(found.path)


def open_model(model: ModelSpec, fingerprint: str, device: torch.device, error: Raise) -> tuple[Any, Any]:
    """A resolved model on its device, and its tokenizer. Raises UserError if it is not what it was.

    On a GPU, in bfloat16 or float16, GPT-2's GELU is one kernel: see `fuse_gelu`.
    """
    folder = find_model(model.name, model.revision, error).path
    if fingerprint_of_model(folder) != fingerprint:
        raise error(NAME, f"expected the model that the activations were begun with, {folder} has changed")
    if model.device_map is None:
        loaded, tokenizer = load_model(folder, model.dtype)
        loaded = loaded.to(device)
    else:
        try:
            import accelerate  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        except ModuleNotFoundError:
            raise error(DEVICE_MAP, "expected nothing, or the package for it: pip install accelerate") from None
        loaded, tokenizer = load_model(folder, model.dtype, model.device_map)
    if device.type == "cuda" and loaded.dtype != torch.float32:
        fuse_gelu(loaded)
    return loaded, tokenizer


def fuse_gelu(model: nn.Module) -> None:
    """Put torch's kernel in the place of GPT-2's GELU: the same function, to rounding.

    `transformers` has it as eight operations, each of which reads and writes the hidden layer of an MLP. Together
    they would take a GPU longer than GPT-2 small's products.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def check_context(model: Any, settings: ContextSettings, error: Raise) -> None:
    """Raise UserError if a context has more tokens than the model has positions."""
    config = text_config(model.config.to_dict())
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    if positions is not None and settings.context > positions:
        message = f"expected at most {positions}, the positions of the model, got {settings.context}"
        raise error(("activations", "context"), message)
