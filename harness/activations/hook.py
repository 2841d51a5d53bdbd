"""Loads a local language model, and captures the output of one of its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.activations.quiet import no_bars
from harness.errors import UserError
from harness.yaml_file import near

if TYPE_CHECKING:
    from harness.sources.docstrings import Docstrings


class _Reached(Exception):
    """Raised by the hook: the rest of the forward pass is not needed."""


def load_model(folder: Path) -> tuple[Any, Any]:
    """Model (float32, evaluation mode) and tokenizer from a local folder; nothing is downloaded or unpickled.

    Raises UserError if one of them cannot be loaded.
    """
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with no_bars():
        with _loading(folder, "a causal language model"):
            model = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, **local
            )
        with _loading(folder, "its tokenizer"):
            return model.eval(), AutoTokenizer.from_pretrained(folder, **local)


@contextmanager
def _loading(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as failure:  # transformers has no exception class for unreadable files
        reason = next(iter(str(failure).strip().splitlines()), type(failure).__name__)
        raise UserError(f"{folder}: expected {what}: {reason}") from None


def check_model(source: Docstrings, folder: Path, model: Any, tokenizer: Any) -> None:
    """Raise UserError if the model in the folder is not the one that the source file describes."""
    sizes, config = source.language_model, model.config
    width, positions = (getattr(config, name, None) for name in ("hidden_size", "max_position_embeddings"))
    if width is not None and sizes.width != width:
        message = f"expected {width}, the width of the model in {folder}, got {sizes.width}"
        raise source.error(("language_model", "width"), message)
    if positions is not None and sizes.context > positions:
        message = f"expected at most the {positions} positions of the model in {folder}, got {sizes.context}"
        raise source.error(("language_model", "context"), message)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: eos_token: expected a tokenizer with one, to stand between documents")
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers' result without tokenizer files
        raise UserError(f"{folder}: expected its tokenizer, found none with a vocabulary")


def check_hook(source: Docstrings, model: Any, module: torch.nn.Module, ids: Tensor) -> None:
    """Raise UserError if the module's output is not a tensor of activations of the source's width.

    ids: some contexts [batch, context] to try it on.
    """
    expected = [*ids.shape, source.language_model.width]
    states = hidden_states(model, module, ids)
    if isinstance(states, Tensor) and list(states.shape) == expected:
        return
    if states is None:
        got = "a module that is never called"
    else:
        got = str(list(states.shape)) if isinstance(states, Tensor) else type(states).__name__
    message = f"expected a module whose output is a tensor {expected} of [contexts, context, width], got {got}"
    raise source.error(("activations", "hook"), message)


def find_module(source: Docstrings, model: Any) -> torch.nn.Module:
    """The module that `activations.hook` names. Raises UserError with similar names."""
    hook = source.activations.hook
    modules: dict[str, torch.nn.Module] = dict(model.named_modules())
    if hook in modules and hook:
        return modules[hook]
    message = f"no module {hook!r} in the model{near(hook, [name for name in modules if name])}"
    raise source.error(("activations", "hook"), message)


@torch.inference_mode()
def hidden_states(model: Any, module: torch.nn.Module, ids: Tensor) -> Any:
    """Output [batch, context, width] of `module` on token ids [batch, context]; later modules do not run.

    None if the module is never called. `check_hook` checks that the output is a tensor.
    """
    seen: list[Any] = []

    def keep(_module: torch.nn.Module, _args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    handle = module.register_forward_hook(keep)
    try:
        model(input_ids=ids, use_cache=False)
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0] if seen else None
