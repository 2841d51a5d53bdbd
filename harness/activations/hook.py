"""Captures the inputs or outputs of some modules of a language model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from harness.activations.stream_file import ReadAt
from harness.activations.text_spec import Raise
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


def check_hooks(source: Docstrings, model: Any, hooks: Sequence[Hook], ids: Tensor) -> None:
    """Raise UserError if what one of them reads is not a tensor of activations of the source's width.

    hooks: of `find_hooks`. ids: some contexts [batch, context] to try them on.
    """
    check_read(_places(source), hooks, hidden_states(model, hooks, ids), ids, source.error)


def check_read(
    places: Sequence[ReadAt], hooks: Sequence[Hook], read: Sequence[Any], ids: Tensor, error: Raise
) -> None:
    """Raise UserError if what was read at one of the places on `ids` [batch, context] is not what is expected."""
    for hook, place, states, where in zip(hooks, places, read, KEYS, strict=False):
        expected = [*ids.shape, place.width]
        shape = list(states.shape) if isinstance(states, Tensor) else None
        if shape == expected:
            continue
        if shape is not None and len(shape) == 3 and shape[:2] == expected[:2]:
            message = f"expected {shape[2]}, the width of the {hook.side} of {place.hook}, got {place.width}"
            raise error((*where[:-1], "width"), message)
        got = "a module that is never called" if states is None else str(shape or type(states).__name__)
        wanted = f"a tensor {expected} of [contexts, context, width]"
        raise error(where, f"expected a module whose {hook.side} is {wanted}, got {got}")


def find_hooks(source: Docstrings, model: Any) -> list[Hook]:
    """What `activations` names, then its `target` if it has one. Raises UserError with similar names."""
    return hooks_at(_places(source), model, source.error)


def hooks_at(places: Sequence[ReadAt], model: Any, error: Raise) -> list[Hook]:
    """The modules at these places. Raises UserError with similar names if there is none."""
    modules: dict[str, torch.nn.Module] = dict(model.named_modules())
    for place, where in zip(places, KEYS, strict=False):
        if not place.hook or place.hook not in modules:
            names = near(place.hook, [name for name in modules if name])
            raise error(where, f"no module {place.hook!r} in the model{names}")
    return [Hook(modules[place.hook], place.side) for place in places]


def _places(source: Docstrings) -> list[ReadAt]:
    wanted, stored = source.activations, source.stored
    places = [ReadAt(hook=wanted.hook, side=wanted.side, width=stored.width)]
    if wanted.target is not None and stored.target_width is not None:
        places.append(ReadAt(hook=wanted.target.hook, side=wanted.target.side, width=stored.target_width))
    return places


@torch.inference_mode()
def hidden_states(model: Any, hooks: Sequence[Hook], ids: Tensor, mask: Tensor | None = None) -> list[Any]:
    """What each hook reads [batch, context, width] in one pass on token ids [batch, context].

    mask: which of them are no padding [batch, context]; None: all. On the CPU, else a GPU is waited for.

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

    padding = {name: given.to(ids.device) for name, given in padding_arguments(model, mask).items()}
    handles = [_register(hook, partial(keep, number)) for number, hook in enumerate(hooks)]
    try:
        model(input_ids=ids, use_cache=False, **padding)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [read.get(number) for number in range(len(hooks))]


def padding_arguments(model: Any, mask: Tensor | None) -> dict[str, Tensor]:
    """What a model is told about padding: nothing where there is none.

    With padding on the left, the first token of a text has position 0 all the same; models without position ids
    (as OPT and BLOOM) see to that by themselves.
    """
    if mask is None:
        return {}
    arguments = {"attention_mask": mask.long()}
    if not bool(mask[:, 0].all()) and "position_ids" in inspect.signature(model.forward).parameters:
        arguments["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)
    return arguments


def _register(hook: Hook, keep: Callable[[Any], None]) -> Any:
    """Have `keep` called with what the hook reads; a module's input is the first of its arguments."""
    if hook.side == "output":
        return hook.module.register_forward_hook(lambda _module, _args, output: keep(output))

    def before(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(next(iter((*args, *kwargs.values())), None))

    return hook.module.register_forward_pre_hook(before, with_kwargs=True)
