"""Loads a local language model, and captures the inputs or outputs of some of its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.activations.quiet import no_bars
from harness.errors import UserError
from harness.yaml_file import near

if TYPE_CHECKING:
    from harness.sources.docstrings import Docstrings

KEYS = (("activations", "hook"), ("activations", "target", "hook"))  # of a source file


class _Reached(Exception):
    """Raised by the last hook: the rest of the forward pass is not needed."""


class Hook(NamedTuple):
    """A module, and which side of it is read."""

    module: torch.nn.Module
    side: Literal["input", "output"] = "output"


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


def check_hooks(source: Docstrings, model: Any, hooks: Sequence[Hook], ids: Tensor) -> None:
    """Raise UserError if what one of them reads is not a tensor of activations of the source's width.

    hooks: of `find_hooks`. ids: some contexts [batch, context] to try them on.
    """
    widths = [source.stored.width, source.stored.target_width]
    read = hidden_states(model, hooks, ids)
    for hook, width, states, where in zip(hooks, widths, read, KEYS, strict=False):
        expected = [*ids.shape, width]
        if isinstance(states, Tensor) and list(states.shape) == expected:
            continue
        if states is None:
            got = "a module that is never called"
        else:
            got = str(list(states.shape)) if isinstance(states, Tensor) else type(states).__name__
        wanted = f"a tensor {expected} of [contexts, context, width]"
        raise source.error(where, f"expected a module whose {hook.side} is {wanted}, got {got}")


def find_hooks(source: Docstrings, model: Any) -> list[Hook]:
    """What `activations` names, then its `target` if it has one. Raises UserError with similar names."""
    places = [source.activations, *([source.activations.target] if source.activations.target else [])]
    modules: dict[str, torch.nn.Module] = dict(model.named_modules())
    for place, where in zip(places, KEYS, strict=False):
        if not place.hook or place.hook not in modules:
            names = near(place.hook, [name for name in modules if name])
            raise source.error(where, f"no module {place.hook!r} in the model{names}")
    return [Hook(modules[place.hook], place.side) for place in places]


@torch.inference_mode()
def hidden_states(model: Any, hooks: Sequence[Hook], ids: Tensor) -> list[Any]:
    """What each hook reads [batch, context, width] in one pass on token ids [batch, context].

    Modules after the last of them do not run. None for a module that is never called; `check_hooks` checks that
    the others read tensors.
    """
    read: dict[int, Any] = {}

    def keep(number: int, states: Any) -> None:
        states = states[0] if isinstance(states, tuple) else states
        # The rest of the pass may change a tensor in place, so that a copy is kept.
        last = len(read) == len(hooks) - 1
        read.setdefault(number, states.clone() if isinstance(states, Tensor) and not last else states)
        if len(read) == len(hooks):
            raise _Reached

    handles = [_register(hook, partial(keep, number)) for number, hook in enumerate(hooks)]
    try:
        model(input_ids=ids, use_cache=False)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [read.get(number) for number in range(len(hooks))]


def _register(hook: Hook, keep: Callable[[Any], None]) -> Any:
    """Have `keep` called with what the hook reads; a module's input is the first of its arguments."""
    if hook.side == "output":
        return hook.module.register_forward_hook(lambda _module, _args, output: keep(output))

    def before(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(next(iter((*args, *kwargs.values())), None))

    return hook.module.register_forward_pre_hook(before, with_kwargs=True)
